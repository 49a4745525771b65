import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.manifests.delta.models import fine_tune, make_model, make_weights

from modelfleet_manifests import delta

APPLY = """
import os, sys
from modelfleet_manifests import delta
def peak():
    rows = open('/proc/self/status').read().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith('VmHWM'))
before = peak()
if True:
    facts = delta.inspect(open(sys.argv[2], 'rb').read)
    old, patch = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], 'rb')
    with open(sys.argv[3], 'wb') as out:
        delta.apply(lambda at, size: os.pread(old, size, at), patch.read, out.write,
                    new_digest=facts.new_digest, new_length=facts.new_size)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_applying_takes_the_same_memory_for_any_size(dtype: str, tmp_path: Path) -> None:
    old = make_weights(1, dtype, (2400, 2400))
    moved: NDArray[np.generic] = (
        fine_tune(old, 2) if dtype.startswith("float") else (old * 0.97 + 3).astype(dtype)
    )
    before, patch, made = tmp_path / "old", tmp_path / "patch", tmp_path / "made"
    new = make_model({"w": moved})
    before.write_bytes(make_model({"w": old}))
    patch.write_bytes(delta.encode(before.read_bytes(), new))
    command = [sys.executable, "-c", APPLY, str(before), str(patch), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert made.read_bytes() == new
    assert int(done.stdout) < 16 << 10
