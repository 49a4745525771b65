"""What the catalog gets from builds."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlmodel import select
from tests.server.builds.models import digits

from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds.errors import NotOnnxError
from modelfleet_server.builds.recipes import DEFAULT_PROFILES
from modelfleet_server.builds.tables import Build
from modelfleet_server.builds.workshop import make_workshop
from modelfleet_server.kit.db import Database


def test_a_master_on_the_server_is_inspected_by_its_digest(
    blobs: BlobStore, tmp_path: Path
) -> None:
    workshop = make_workshop(blobs)
    schema = workshop.inspect(blobs.put(digits()).digest)
    assert [tensor.name for tensor in (*schema.inputs, *schema.outputs)] == ["x", "logits"]
    with pytest.raises(NotOnnxError):
        workshop.inspect(blobs.put(b"hello").digest)


def test_a_profile_without_recipe_is_refused_before_anything_is_queued(
    blobs: BlobStore, database: Database
) -> None:
    workshop = make_workshop(blobs)
    assert workshop.profiles == DEFAULT_PROFILES
    with database.write() as session:
        with pytest.raises(Exception, match="abacus"):
            workshop.queue(session, "1" * 32, ["abacus"], actor="user:ada", at_ms=1)
        assert not session.exec(select(Build)).all()


def test_the_servers_own_process_loads_nothing_that_parses_models() -> None:
    script = (
        "import sys, modelfleet_server.builds.worker, modelfleet_server.builds.api\n"
        "import modelfleet_server.builds.workshop\n"
        "print(sorted({'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
