"""A client that knows nothing of us: `tritonclient[http]` from PyPI, unmodified."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.agent import models
from tests.agent.runtime.conftest import SLOT, serve
from tests.agent.runtime.test_extensions import KINDS
from tests.agent.runtime.triton_client import VALUES
from tests.support.foreign_venv import python_with

from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.store import Store

SCRIPT = Path(__file__).with_name("triton_client.py")


@pytest.mark.slow  # it installs a package the first time
def test_an_unmodified_triton_client_passes(client: RuntimeClient, store: Store) -> None:
    python = python_with("tritonclient[http]", "tritonclient")
    kinds = {name: KINDS[name] for name in VALUES}
    serve(client, models.release(store, models.identities(kinds)))
    ready = client.ready
    assert ready is not None
    done = subprocess.run(
        [str(python), str(SCRIPT), f"127.0.0.1:{ready.port}", SLOT],
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["count"] == 2 + 2 + 16
    assert "nobody" in told["refusal"]
