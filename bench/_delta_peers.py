"""One step of one codec: `NAME encode OLD NEW PATCH` or `NAME apply OLD PATCH OUT`.

Prints {"cpu_s", "peak_kib"}: CPU of the call alone, and the peak of the whole process (of
the tool's process where it is a command). Exit 3: the codec is not installed.
"""

import importlib
import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from modelfleet_manifests import delta

OURS = "modelfleet"
_WINDOW = ["--long=27", "-q", "-f", "-T1"]
# name: (encode, apply); {o} old, {n} new, {p} patch, {r} result
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "zstd19_full": (
        ["zstd", "-q", "-f", "-19", "-T1", "{n}", "-o", "{p}"],
        ["zstd", "-q", "-f", "-d", "{p}", "-o", "{r}"],
    ),
    "xz6_full": (
        ["xz", "-6", "-T1", "-k", "-c", "{n}", ">{p}"],
        ["xz", "-dc", "{p}", ">{r}"],
    ),
    "zstd_patch_3": (
        ["zstd", *_WINDOW, "-3", "--patch-from={o}", "{n}", "-o", "{p}"],
        ["zstd", *_WINDOW, "-d", "--patch-from={o}", "{p}", "-o", "{r}"],
    ),
    "zstd_patch_19": (
        ["zstd", *_WINDOW, "-19", "--patch-from={o}", "{n}", "-o", "{p}"],
        ["zstd", *_WINDOW, "-d", "--patch-from={o}", "{p}", "-o", "{r}"],
    ),
    "xdelta3_9_lzma": (
        [
            "xdelta3",
            "-e",
            "-f",
            "-9",
            "-S",
            "lzma",
            "-B",
            "67108864",
            "-s",
            "{o}",
            "{n}",
            "{p}",
        ],
        ["xdelta3", "-d", "-f", "-B", "67108864", "-s", "{o}", "{p}", "{r}"],
    ),
}
LIBRARIES = ("bsdiff4", "hdiff_zstd19", "hdiff_lzma9", "zipnn_delta_f32", "zipnn_delta_f16")
CODECS = (OURS, *COMMANDS, *LIBRARIES)


def main(name: str, step: str, *files: str) -> None:
    if name == "baseline":
        _report(0.0, _peak_kib())
        return
    paths = [Path(file) for file in files]
    if name in COMMANDS:
        _run_command(COMMANDS[name][step == "apply"], step, paths)
        return
    try:
        call = _ours(step, *paths) if name == OURS else _library(name, step, *paths)
    except ImportError:
        raise SystemExit(3) from None
    before = _cpu_s(resource.RUSAGE_SELF)
    call()
    _report(_cpu_s(resource.RUSAGE_SELF) - before, _peak_kib())


def _ours(step: str, old: Path, second: Path, out: Path) -> Callable[[], None]:
    def encode() -> None:
        with old.open("rb") as a, second.open("rb") as b, out.open("wb") as patch:
            before = mmap.mmap(a.fileno(), 0, access=mmap.ACCESS_READ)
            after = mmap.mmap(b.fileno(), 0, access=mmap.ACCESS_READ)
            patch.writelines(delta.encode_chunks(memoryview(before), memoryview(after)))

    if step == "encode":
        return encode
    with second.open("rb") as head:
        facts = delta.inspect(head.read)

    def apply() -> None:
        with old.open("rb") as base, second.open("rb") as patch, out.open("wb") as result:
            delta.apply(
                lambda offset, length: os.pread(base.fileno(), length, offset),
                patch.read,
                result.write,
                new_digest=facts.new_digest,
                new_length=facts.new_size,
            )

    return apply


def _library(
    name: str, step: str, old: Path, second: Path, out: Path
) -> Callable[[], None]:
    encode, apply = _functions(name)
    before, after = old.read_bytes(), second.read_bytes()
    function = encode if step == "encode" else apply
    return lambda: _write(out, function(before, after))


def _write(out: Path, data: bytes) -> None:
    out.write_bytes(data)


Function = Callable[[bytes, bytes], bytes]


def _functions(name: str) -> tuple[Function, Function]:
    if name == "bsdiff4":
        bsdiff4 = importlib.import_module("bsdiff4")

        return bsdiff4.diff, bsdiff4.patch
    if name.startswith("hdiff"):
        hdiffpatch = importlib.import_module("hdiffpatch")

        lzma = hdiffpatch.LzmaConfig(level=9, window=24)
        plugin = hdiffpatch.ZStdConfig(level=19, window=24) if "zstd" in name else lzma
        return (
            lambda old, new: bytes(hdiffpatch.diff(old, new, compression=plugin)),
            lambda old, patch: bytes(hdiffpatch.apply(old, patch)),
        )
    return _zipnn("float32" if name.endswith("f32") else "float16")


def _zipnn(kind: str) -> tuple[Function, Function]:
    zipnn = importlib.import_module("zipnn")

    options = {
        "bytearray_dtype": kind,
        "input_format": "byte",
        "delta_compressed_type": "byte",
    }

    def encode(old: bytes, new: bytes) -> bytes:
        if len(old) != len(new):
            raise SystemExit("files of different length")
        pad = -len(new) % 4  # it corrupts its memory on other lengths
        old, new = old + bytes(pad), new + bytes(pad)
        return bytes([pad]) + bytes(
            zipnn.ZipNN(**options).compress(new, delta_second_data=old)
        )

    def apply(old: bytes, patch: bytes) -> bytes:
        old += bytes(patch[0])
        made = bytes(zipnn.ZipNN(**options).decompress(patch[1:], delta_second_data=old))
        return made[: len(made) - patch[0]]

    return encode, apply


def _run_command(command: list[str], step: str, paths: list[Path]) -> None:
    if shutil.which(command[0]) is None:
        raise SystemExit(3)
    names = ("o", "n", "p") if step == "encode" else ("o", "p", "r")
    fill = dict(zip(names, map(str, paths), strict=True))
    words = [word.format(**fill) for word in command]
    before = _cpu_s(resource.RUSAGE_CHILDREN)
    if words[-1].startswith(">"):
        with Path(words.pop()[1:]).open("wb") as out:
            subprocess.run(words, stdout=out, check=True)
    else:
        subprocess.run(words, check=True)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    _report(_cpu_s(resource.RUSAGE_CHILDREN) - before, usage.ru_maxrss)


def _cpu_s(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _peak_kib() -> int:
    """Return the peak since this program was started; rusage counts its parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _report(cpu_s: float, peak_kib: int) -> None:
    print(json.dumps({"cpu_s": round(cpu_s, 4), "peak_kib": peak_kib}))


if __name__ == "__main__":
    main(*sys.argv[1:])
