"""Make the new file from the old one and a patch, in flat memory."""

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np

from .coding import SymbolStream
from .container import SYMBOLS, Header, Op, PatchSource, read_block, read_head
from .elements import decode_elements
from .errors import WrongBaseError, WrongResultError, WrongTargetError
from .floats import WIDTHS, cast
from .memory import keep_freed_memory
from .schedule import TEXT, Cast, Copy, Emit, Refill, list_old_text, plan_steps, width_of
from .text import Text, decode_text
from .words import words_of

CHUNK: Final = 1 << 20
"""Bytes read or written at once."""

_CAST_AT_ONCE: Final = 1 << 17
"""Floats."""

ReadOld = Callable[[int, int], bytes | memoryview]


class _Output:
    """Counts and digests what is written."""

    def __init__(self, write: Callable[[bytes | memoryview], object]) -> None:
        self._write = write
        self._digest = hashlib.sha256()

    def put(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._write(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def apply(
    read_old: ReadOld,
    read_patch: Callable[[int], bytes],
    write: Callable[[bytes | memoryview], object],
    *,
    new_digest: str,
    new_length: int,
) -> None:
    """Write the new file, piece by piece, and verify it.

    Write to a file of its own and give it its name only after this returned: what was
    written before an error is worthless. Peak memory does not depend on the sizes.

    Args:
        read_old: Reads (offset, length) of the old file; short only at its end.
        read_patch: Reads up to n next bytes of the patch; empty only at its end.
        write: Takes each next piece of the new file, at most 1 MiB.
        new_digest: Signed SHA-256 of the new file, lower-case hex.
        new_length: Signed length of the new file in bytes.

    Raises:
        BrokenPatchError: Truncated, altered or malformed.
        UnknownPatchError: Made by a newer encoder.
        WrongBaseError: The old file is another one.
        WrongTargetError: The patch makes another file.
        WrongResultError: The output has another digest.
    """
    keep_freed_memory()
    source = PatchSource(read_patch)
    header, ops = read_head(source, max_new_size=new_length)
    _check_target(header, new_digest, new_length)
    check_base(header, read_old)
    output = _Output(write)
    _run(source, header, ops, read_old, output)
    source.finish()
    if output.hexdigest() != new_digest:
        raise WrongResultError(new_digest, output.hexdigest())


def check_base(header: Header, read_old: ReadOld) -> None:
    """Read all of the old file and compare size and digest.

    Raises:
        WrongBaseError: It is not the file that the patch needs.
    """
    digest = hashlib.sha256()
    at = 0
    while at < header.old_size:
        data = read_old(at, min(CHUNK, header.old_size - at))
        if not data:
            break
        digest.update(data)
        at += len(data)
    digest.update(read_old(at, 1))
    if digest.digest() != header.old_digest:
        raise WrongBaseError(header.old_digest.hex(), digest.hexdigest())


def _check_target(header: Header, new_digest: str, new_length: int) -> None:
    found = header.new_digest.hex()
    if found != new_digest:
        raise WrongTargetError(
            new_digest, found, f"it makes {found}, signed is {new_digest}"
        )
    if header.new_size != new_length:
        why = f"it makes {header.new_size} bytes, signed are {new_length}"
        raise WrongTargetError(new_digest, found, why)


class _Decoder:
    """Turns blocks into bytes and remembers what their streams must remember."""

    def __init__(
        self, source: PatchSource, header: Header, ops: list[Op], read_old: ReadOld
    ) -> None:
        self._source, self._ops, self._read_old = source, ops, read_old
        self._old_text = Text(read_old, list_old_text(header, ops))
        self._symbols: dict[int, SymbolStream] = {}

    def refill(self, refill: Refill) -> memoryview:
        payload = read_block(self._source, refill.size)
        try:
            return self._decode(payload, refill)
        except ValueError as error:
            raise self._source.broken(str(error)) from None

    def _decode(self, payload: bytes, refill: Refill) -> memoryview:
        if refill.stream == TEXT:
            return memoryview(decode_text(payload, refill.size, self._old_text))
        if not refill.stream & SYMBOLS:
            return decode_elements(payload, refill, self._ops, self._read_old)
        if refill.stream not in self._symbols:
            width = width_of(refill.stream)
            self._symbols[refill.stream] = SymbolStream(width, self._ops, self._read_old)
        return self._symbols[refill.stream].decode(payload, refill)


def _run(
    source: PatchSource, header: Header, ops: list[Op], read_old: ReadOld, output: _Output
) -> None:
    decoder = _Decoder(source, header, ops, read_old)
    ready: dict[int, memoryview] = {}
    for step in plan_steps(header, ops):
        match step:
            case Copy(base, length):
                _copy(read_old, base, length, output)
            case Cast():
                _cast(read_old, step, output)
            case Emit(stream, length):
                output.put(ready[stream][:length])
                ready[stream] = ready[stream][length:]
            case Refill():
                ready.pop(step.stream, None)
                ready[step.stream] = decoder.refill(step)


def _cast(read_old: ReadOld, step: Cast, output: _Output) -> None:
    old_width, width = WIDTHS[step.old_kind], WIDTHS[step.new_kind]
    count = step.length // width
    for at in range(0, count, _CAST_AT_ONCE):
        size = min(_CAST_AT_ONCE, count - at) * old_width
        data = read_old(step.base + at * old_width, size)
        if len(data) != size:
            return  # the old file shrank after its check; the digest will say so
        made = cast(words_of(data, old_width), step.old_kind, step.new_kind)
        output.put(made.view(np.uint8).data)


def _copy(read_old: ReadOld, base: int, length: int, output: _Output) -> None:
    while length:
        data = read_old(base, min(CHUNK, length))
        if not data:
            return  # the old file shrank after its check; the digest will say so
        output.put(data)
        base += len(data)
        length -= len(data)
