"""Which method a tensor gets: they compete on a sample."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from .container import Method, Op
from .fitting import lower
from .groups import pack_groups
from .planes import encode_planes
from .prediction import Side
from .recipes import (
    Data,
    Recipe,
    Trial,
    find_excess,
    fit_all,
    list_trials,
    measure,
    open_tensor,
    take_sample,
)
from .residual import subtract
from .tensors import Tensor

MIN_SYMBOLS: Final = 16
"""Elements below which a tensor is not worth groups of its own."""
_CLEAR: Final = 0.6
"""Share of the raw size below which an old tensor has won without a race."""


class Choice(NamedTuple):
    """The op of a tensor, its gap and base to be set.

    Attributes:
        op: What to do.
        side: For methods of symbols.
        cost: Bytes that it will take, judged by a sample.
    """

    op: Op
    side: Side | None
    cost: float


def choose(new: memoryview, old: memoryview | None, tensor: Tensor) -> Choice:
    """Return how to code a tensor.

    Args:
        new: Its bytes.
        old: The bytes of the old tensor, as many; None if there is none.
        tensor: Its type and shape.
    """
    data = open_tensor(new, old, tensor)
    sample = take_sample(data)
    least, winner = float("inf"), None
    share = data.new.size / sample.new.size / 8
    clear = _CLEAR * 8 * sample.new.nbytes
    width = data.new.itemsize
    if width <= 4 and sample.new.size >= MIN_SYMBOLS:  # noqa: PLR2004 - as symbols can be
        for trial in list_trials(data, sample):
            if trial.recipe is Recipe.NOVEL and least < clear:
                continue
            cost = measure(trial, data, sample)
            if cost < least:
                least, winner = cost, trial
    if winner is None or least > clear:
        cost, method = min(_plane_costs(sample), key=lambda pair: pair[0])
        if winner is None or cost < least:
            return Choice(Op(method, width, 0, len(new), 0, b""), None, cost * share)
    excess = find_excess(winner, data, sample, least)
    return _settle(winner, data, excess, least * share)


def _settle(winner: Trial, data: Data, excess: int, cost: float) -> Choice:
    """Fit the whole tensor in the way that won on the sample."""
    whole = lower(fit_all(winner, data), excess)
    params = pack_groups(whole.groups)
    op = Op(whole.method, data.new.itemsize, 0, data.new.nbytes, 0, params)
    return Choice(op, whole.side, cost)


def _plane_costs(sample: Data) -> Iterator[tuple[float, Method]]:
    for method in (Method.SUBTRACT, Method.XOR, Method.FRESH):
        if sample.old is not None or method is Method.FRESH:
            left = subtract(sample.new, sample.old, method)
            yield 8.0 * len(encode_planes(left)), method
