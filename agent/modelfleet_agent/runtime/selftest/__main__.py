"""The self-test child: `python -m modelfleet_agent.runtime.selftest`, under limits.

It reads a `Spec` from standard input and writes a `SelfTest` to standard output. Exit code
0 means that it came to a verdict, whichever.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from statistics import median

import msgspec
import numpy as np

from modelfleet_agent.clock import monotonic_us
from modelfleet_agent.errors import AgentError, RefusedError
from modelfleet_agent.runtime.selftest import SelfTest, Spec
from modelfleet_agent.runtime.session import Session, brief, read_golden
from modelfleet_agent.runtime.tensors import Array

MOST_RUNS = 20  # where the median decides
FEW_RUNS = 3  # where it is told only
ENOUGH_US = 1_000_000
_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "MemoryError")


def test(spec: Spec) -> SelfTest:
    """Load, run, compare, measure.

    Raises:
        AgentError: Whatever is wrong, in its code.
    """
    record = spec.placed.record
    if spec.placed.golden is None:
        raise RefusedError("E_GOLDEN", "the release has no golden inputs to test it on")
    feeds, golden = read_golden(spec.placed.golden)
    # under its limits it may be parsed before it is proven, as in no other place
    session = Session(spec.placed, threads=1, hurried=True)
    names = [output.name for output in session.outputs]
    if unknown := golden.keys() - set(names):
        raise RefusedError("E_GOLDEN", f"the model has no outputs {sorted(unknown)}")
    answers = dict(zip(names, _run(session, feeds, names), strict=True))
    check_finite(answers)
    atol, rtol = float(record.atol), float(record.rtol)
    max_abs = max(compare(n, answers[n], golden[n], atol, rtol) for n in golden)
    most = FEW_RUNS if spec.max_latency_ms is None else MOST_RUNS
    latency_ms = median(_measure(session, feeds, names, most=most)) / 1000
    if spec.max_latency_ms is not None and latency_ms > spec.max_latency_ms:
        what = f"it takes {latency_ms:.1f} ms where {spec.max_latency_ms:g} ms are allowed"
        raise RefusedError("E_SLOW", what)
    return SelfTest(ok=True, max_abs=max_abs, latency_ms=latency_ms)


def check_finite(answers: Mapping[str, Array]) -> None:
    """Refuse NaN and infinity.

    Raises:
        RefusedError: `E_NOT_FINITE`.
    """
    for name, answer in answers.items():
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            bad = int((~np.isfinite(answer)).sum())
            what = f"{bad} of {answer.size} values of {name!r} are not finite"
            raise RefusedError("E_NOT_FINITE", what)


def compare(name: str, answer: Array, golden: Array, atol: float, rtol: float) -> float:
    """Return the largest absolute difference; 0 for outputs that are no numbers.

    Raises:
        RefusedError: `E_SELF_TEST`: another shape, or farther off than
            `atol + rtol * |golden|`.
    """
    if answer.shape != golden.shape:
        what = f"{name!r} has shape {answer.shape}, golden is {golden.shape}"
        raise RefusedError("E_SELF_TEST", what)
    if answer.dtype.kind not in "iuf":
        if not np.array_equal(answer, golden.astype(answer.dtype)):
            raise RefusedError("E_SELF_TEST", f"{name!r} differs from its golden values")
        return 0.0
    reference = golden.astype(np.float64)
    off = np.abs(answer.astype(np.float64) - reference)
    worst = float(off.max(initial=0.0))
    wrong = int((~(off <= atol + rtol * np.abs(reference))).sum())  # NaN is wrong, too
    if wrong:
        what = f"{wrong} of {off.size} values of {name!r} are off, by up to {worst:.6g}"
        raise RefusedError("E_SELF_TEST", what)
    return worst


def _run(session: Session, feeds: Mapping[str, Array], names: list[str]) -> list[Array]:
    try:
        return session.run(feeds, names)
    except Exception as error:
        code = "E_MEMORY" if _is_memory(error) else "E_WARM"
        what = f"it fails on its golden inputs: {brief(error)}"
        raise RefusedError(code, what) from error


def _measure(
    session: Session, feeds: Mapping[str, Array], names: list[str], *, most: int
) -> list[int]:
    """Return how long runs take, in microseconds."""
    took: list[int] = []
    while len(took) < most and sum(took) < ENOUGH_US:
        began = monotonic_us()
        _run(session, feeds, names)
        took.append(monotonic_us() - began)
    return took


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY)


def main() -> None:
    """Read, test, answer."""
    # libraries that print must not garble the verdict
    verdict = os.dup(sys.stdout.fileno())
    with contextlib.redirect_stdout(sys.stderr):
        os.dup2(sys.stderr.fileno(), 1)
        try:
            result = test(msgspec.json.decode(sys.stdin.buffer.read(), type=Spec))
        except AgentError as error:
            code = "E_MEMORY" if _is_memory(error) else error.code
            result = SelfTest(ok=False, code=code, reason=error.what)
    os.write(verdict, msgspec.json.encode(result))
    os._exit(0)  # the verdict stands; destroying a bad session might yet crash


if __name__ == "__main__":
    main()
