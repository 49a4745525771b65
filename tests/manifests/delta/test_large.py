"""Models of more than 2 GiB: external data, offsets beyond 32 bits, flat memory."""

import io
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.manifests.delta.models import fine_tune, make_model, make_weights

from modelfleet_manifests import delta
from modelfleet_manifests.delta.container import (
    Header,
    Method,
    Op,
    PatchSource,
    pack_head,
    read_head,
)

_MIB = 1 << 20
_SHAPE = (512, 1024)
_LAST = 2200 * _MIB
"""Where the last tensor starts: beyond what a signed 32-bit number holds."""

APPLY = """
import os, sys
from modelfleet_manifests import delta
def peak():
    rows = open('/proc/self/status').read().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith('VmHWM'))
before = peak()
facts = delta.inspect(open(sys.argv[2], 'rb').read)
old, patch = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], 'rb')
with open(os.devnull, 'wb') as out:
    delta.apply(lambda at, size: os.pread(old, size, at), patch.read, out.write,
                new_digest=facts.new_digest, new_length=facts.new_size)
print(peak() - before)
"""


def make_external(shift: int) -> bytes:
    """Return a model of three external tensors: the middle one is a hole of 2 GiB."""
    rows = (
        ("first", 0, _SHAPE),
        ("hole", 4 * _MIB, (2196, _MIB // 4)),
        ("last", 0, _SHAPE),
    )
    tensors = []
    for name, offset, shape in rows:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        start = _LAST + shift if name == "last" else offset
        for key, value in (
            ("location", "model.data"),
            ("offset", str(start)),
            ("length", str(4 * int(np.prod(shape)))),
        ):
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
    graph = helper.make_graph([], "g", [], [])
    graph.initializer.extend(tensors)
    model: onnx.ModelProto = helper.make_model(graph)
    return bytes(model.SerializeToString())


def write_sparse(path: Path, first: bytes, last: bytes) -> None:
    with path.open("wb") as file:
        file.write(first)
        file.seek(_LAST)
        file.write(last)


def open_view(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_external_data_beyond_two_gibibytes_is_patched_in_flat_memory(
    tmp_path: Path,
) -> None:
    old, new, patch = tmp_path / "old", tmp_path / "new", tmp_path / "patch"
    first, last = (make_weights(seed, shape=_SHAPE) for seed in (1, 2))
    moved = fine_tune(last, 3, rate=1e-6)
    write_sparse(old, first.tobytes(), last.tobytes())
    write_sparse(new, first.tobytes(), moved.tobytes())
    tensors = delta.scan_side_files(memoryview(make_external(0)))["model.data"]
    with patch.open("wb") as out:
        out.writelines(
            delta.encode_chunks(open_view(old), open_view(new), sides=(tensors, tensors))
        )
    assert new.stat().st_size > 1 << 31
    alone = delta.encode(make_model({"w": last}), make_model({"w": moved}))
    assert patch.stat().st_size < len(alone) + 1024
    command = [sys.executable, "-c", APPLY, str(old), str(patch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 << 10


def test_the_op_table_holds_offsets_and_lengths_beyond_four_gibibytes() -> None:
    size = 1 << 36
    header = Header(size, size, bytes(32), bytes(32))
    ops = [
        Op(Method.COPY, 1, 17, 5 << 32, 1 << 35, b""),
        Op(Method.SUBTRACT, 4, 3, 1 << 33, 0, b""),
    ]
    head = pack_head(header, ops)
    found = read_head(PatchSource(io.BytesIO(head).read), max_new_size=size)
    assert found == (header, ops)
    tensors = delta.scan_side_files(memoryview(make_external(1 << 33)))["model.data"]
    assert tensors[-1].offset == _LAST + (1 << 33)
