"""Patches that lie: real ones taken apart, altered and put together with right checksums.

    python -m tests.manifests.delta.hostile --minutes 10

looks for an input that ends in anything but a patch's own error, in too much memory or too
much time, and keeps one input for every new way to be refused in `hostile/`.
"""

import argparse
import hashlib
import io
import re
import resource
import signal
import struct
import time
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tests.manifests.delta.models import fine_tune, make_model, make_weights

from modelfleet_manifests import delta
from modelfleet_manifests.delta.packing import pack, unpack

CORPUS = Path(__file__).parent / "hostile"
HEAD = struct.Struct("<8sBBHQQ32s32sII")
SPARE_BYTES = 192 << 20


class Parts(NamedTuple):
    """A patch without its checksums."""

    fixed: bytes
    table: bytes
    blocks: list[bytes]

    def assemble(self) -> bytes:
        packed = pack(self.table, level=1)
        fixed = bytearray(self.fixed)
        fixed[-8:] = struct.pack("<II", len(packed), len(self.table))
        check = zlib.crc32(packed, zlib.crc32(bytes(fixed)))
        blocks = (
            struct.pack("<II", len(one), zlib.crc32(one)) + one for one in self.blocks
        )
        return bytes(fixed) + struct.pack("<I", check) + packed + b"".join(blocks)


class Case(NamedTuple):
    old: bytes
    new: bytes
    parts: Parts


@cache
def cases() -> list[Case]:
    generator = np.random.default_rng(5)
    floats, halves = make_weights(1, shape=(40, 30)), make_weights(2, "float16", (30, 40))
    codes = make_weights(3, "uint8", (50, 40))
    tensors = {
        "f": floats,
        "h": halves,
        "u": codes,
        "d": make_weights(4, "float64", (9, 9)),
    }
    moved = {name: fine_tune(value, 7) for name, value in tensors.items()}
    moved["u"] = (codes * 0.9 + 12).astype("uint8")
    moved["n"] = make_weights(6, shape=(90, 60))
    many = make_weights(8, "float16", (140, 100))
    pairs = [
        (make_model(tensors), make_model(moved)),
        (generator.bytes(4000), generator.bytes(4000)),
        (make_model({"a": codes}), make_model({"a": codes, "b": moved["n"]})),
        (make_model({"h": many}), make_model({"h": fine_tune(many, 9, 1e-3)})),
        (make_model({"f": floats}), make_model({"f": floats.astype("float16")})),
    ]
    return [Case(old, new, take_apart(delta.encode(old, new))) for old, new in pairs]


def take_apart(patch: bytes) -> Parts:
    fixed = patch[: HEAD.size]
    packed, size = struct.unpack("<II", fixed[-8:])
    at = HEAD.size + 4 + packed
    table = unpack(patch[HEAD.size + 4 : at], size)
    blocks = []
    while at < len(patch):
        (length,) = struct.unpack_from("<I", patch, at)
        blocks.append(patch[at + 8 : at + 8 + length])
        at += 8 + length
    return Parts(fixed, table, blocks)


def mutate(seed: int) -> tuple[Case, bytes]:
    """Return a case and a patch for it that is wrong in a few places."""
    generator = np.random.default_rng(seed)
    case = cases()[int(generator.integers(len(cases())))]
    fixed, table, blocks = case.parts.fixed, case.parts.table, list(case.parts.blocks)
    for _ in range(int(generator.integers(1, 4))):
        where = generator.integers(8)
        if where == 0:
            fixed = fixed[:12] + alter(fixed[12:], generator)[: len(fixed) - 12]
            fixed = fixed.ljust(HEAD.size, b"\0")
        elif where <= 3:
            table = alter(table, generator)
        elif blocks:
            number = int(generator.integers(len(blocks)))
            blocks[number] = alter(blocks[number], generator)
    return case, Parts(fixed, table, blocks).assemble()


def alter(data: bytes, generator: np.random.Generator) -> bytes:
    out = bytearray(data)
    at = int(generator.integers(len(out) + 1))
    if generator.random() < 0.6:  # the beginnings hold what lengths and methods hang on
        at = min(at, int(generator.integers(40)))
    kind = generator.integers(5)
    if kind == 0 and at < len(out):
        out[at] = int(generator.integers(256))
    elif kind == 1 and at < len(out):
        out[at] ^= 1 << int(generator.integers(8))
    elif kind == 2:
        out[at:at] = generator.bytes(int(generator.integers(1, 9)))
    elif kind == 3:
        del out[at : at + int(generator.integers(1, 9))]
    else:
        out[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(out)


def refusal(case: Case, patch: bytes) -> str:
    """Return how a patch is refused, or "made it" where it still makes the new file."""
    out = io.BytesIO()
    try:
        delta.apply(
            lambda offset, length: case.old[offset : offset + length],
            io.BytesIO(patch).read,
            out.write,
            new_digest=hashlib.sha256(case.new).hexdigest(),
            new_length=len(case.new),
        )
    except delta.DeltaError as error:
        assert out.tell() <= len(case.new)
        return f"{type(error).__name__}: {re.sub(r'[0-9a-f]{64}|[0-9]+', '#', str(error))}"
    assert out.getvalue() == case.new
    return "made it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cases()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, used + SPARE_BYTES))
    CORPUS.mkdir(exist_ok=True)
    known = {refusal(*load(path)) for path in CORPUS.glob("*.patch")}
    end, seed = time.monotonic() + 60 * options.minutes, options.seed
    while time.monotonic() < end:
        seed += 1
        case, patch = mutate(seed)
        signal.alarm(20)
        try:
            found = refusal(case, patch)
        except BaseException:
            print(f"seed {seed}", flush=True)
            raise
        signal.alarm(0)
        if found not in known:
            known.add(found)
            number = cases().index(case)
            name = f"{number}-{hashlib.sha256(patch).hexdigest()[:12]}.patch"
            (CORPUS / name).write_bytes(patch)
            print(f"{seed}: {found}", flush=True)
    print(f"{seed - options.seed} patches, {len(known)} ways to be refused")


def load(path: Path) -> tuple[Case, bytes]:
    return cases()[int(path.name.split("-")[0])], path.read_bytes()


if __name__ == "__main__":
    main()
