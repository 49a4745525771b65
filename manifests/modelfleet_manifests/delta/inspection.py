"""What is in a patch, without the files it was made from."""

from collections.abc import Callable
from typing import NamedTuple

from .container import Header, Op, PatchSource, read_block, read_head
from .schedule import TEXT, Refill, plan_steps, width_of


class Part(NamedTuple):
    """What one op costs.

    Attributes:
        method: Its name, lower case.
        width: Bytes per element.
        offset: First byte in the new file.
        length: Bytes it makes there.
        packed: Bytes of the patch; a block of several ops is split by their elements.
    """

    method: str
    width: int
    offset: int
    length: int
    packed: int


class Inspection(NamedTuple):
    """A patch, taken apart; `head` and `text` are bytes of the patch."""

    old_digest: str
    old_size: int
    new_digest: str
    new_size: int
    patch_size: int
    head: int
    text: int
    parts: tuple[Part, ...]


def inspect(read_patch: Callable[[int], bytes]) -> Inspection:
    """Return what is in a patch; every block's checksum is verified on the way.

    Args:
        read_patch: Reads up to n next bytes of the patch; empty only at its end.

    Raises:
        BrokenPatchError: Truncated, altered or malformed.
        UnknownPatchError: Made by a newer encoder.
    """
    source = PatchSource(read_patch)
    header, ops = read_head(source, max_new_size=None)
    head = source.offset
    costs, text = _read_costs(source, header, ops)
    source.finish()
    return Inspection(
        header.old_digest.hex(),
        header.old_size,
        header.new_digest.hex(),
        header.new_size,
        source.offset,
        head,
        text,
        tuple(_parts(ops, costs)),
    )


def _read_costs(
    source: PatchSource, header: Header, ops: list[Op]
) -> tuple[list[float], int]:
    costs = [0.0] * len(ops)
    text = 0
    for step in plan_steps(header, ops):
        if not isinstance(step, Refill):
            continue
        before = source.offset
        read_block(source, step.size)
        packed = source.offset - before
        if step.stream == TEXT:
            text += packed
        for span in step.spans:
            costs[span.op] += packed * span.size * width_of(step.stream) / step.size
    return costs, text


def _parts(ops: list[Op], costs: list[float]) -> list[Part]:
    parts: list[Part] = []
    at = 0
    for op, cost in zip(ops, costs, strict=True):
        at += op.gap
        if op.made:
            parts.append(Part(op.method.name.lower(), op.width, at, op.length, round(cost)))
        at += op.made
    return parts
