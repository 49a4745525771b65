"""The evaluation's child: `python -m modelfleet_agent.runtime.evaluation`, under limits.

It reads a `Task` from standard input and writes a `Found` to standard output. Samples are
given as a device gets them: one at a time, or as many as the model takes.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime

from modelfleet_agent.clock import monotonic_us
from modelfleet_agent.errors import AgentError, RefusedError
from modelfleet_agent.runtime.evaluation import Found, Task
from modelfleet_agent.runtime.files import OpenFile
from modelfleet_agent.runtime.session import Session, brief
from modelfleet_agent.runtime.tensors import Array
from modelfleet_agent.store.record import PlacedFile

WARM_RUNS = 2
POWERCAP = Path("/sys/class/powercap")
_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "MemoryError")


def evaluate(task: Task) -> Found:
    """Load, answer, measure.

    Raises:
        AgentError: Whatever is wrong, in its code.
    """
    session = Session(task.placed, threads=task.threads)
    calls, batch = read_calls(session, task.samples, task.count)
    names = [session.outputs[0].name]
    for _ in range(WARM_RUNS):
        _run(session, calls[0], names)
    answers: list[Array] = []
    took: list[int] = []
    before = energy_uj(POWERCAP)
    for feeds in calls:
        began = monotonic_us()
        answer = _run(session, feeds, names)
        took.append(monotonic_us() - began)
        answers.append(answer)
    after = energy_uj(POWERCAP)
    together = join(answers, task.count, per_sample=batch > 0)
    np.save(task.answers, together, allow_pickle=False)
    p50, p90, p99 = (int(one) for one in np.percentile(took, (50, 90, 99)))
    return Found(
        samples=len(together),
        batch=max(batch, 1),
        latency_us=(p50, p90, p99),
        load_ms=int(session.load_ms),
        energy_mj=None
        if before is None or after is None
        else max(after - before, 0) // 1000,
        runtime=f"onnxruntime {onnxruntime.__version__}",
        provider=session.provider,
    )


def read_calls(
    session: Session, file: PlacedFile, count: int
) -> tuple[list[dict[str, Array]], int]:
    """Return what the model is called with, and how many samples each call has.

    0 stands for whole calls: every array has one axis more than its input, and each row is
    one call (docs/variants.md).

    Raises:
        RetryableError: `E_MISSING`.
        RefusedError: `E_DIGEST`, or `E_SAMPLES`: they do not fit the model.
    """
    arrays = _load(file)
    missing = [one.name for one in session.inputs if one.name not in arrays]
    if missing:
        raise RefusedError("E_SAMPLES", f"the set has no arrays {missing}")
    inputs = {one.name: arrays[one.name][:count] for one in session.inputs}
    lengths = {len(array) for array in inputs.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise RefusedError("E_SAMPLES", f"the inputs have {sorted(lengths)} samples")
    total = lengths.pop()
    if all(inputs[one.name].ndim == len(one.shape) + 1 for one in session.inputs):
        rows = range(total)
        return [{n: np.asarray(a[row]) for n, a in inputs.items()} for row in rows], 0
    fixed = [one.shape[0] for one in session.inputs if one.shape and one.shape[0] > 0]
    batch = max(fixed, default=1)
    return list(_batches(inputs, total, batch)), batch


def join(answers: list[Array], count: int, *, per_sample: bool) -> Array:
    """Return the answers of all samples as one array.

    Raises:
        RefusedError: `E_SAMPLES`: an answer has not one row per sample.
    """
    if len({answer.shape[1:] if per_sample else answer.shape for answer in answers}) != 1:
        raise RefusedError("E_SAMPLES", "the answers have different shapes")
    if per_sample:
        if answers[0].ndim == 0:
            raise RefusedError("E_SAMPLES", "the first output has not one row per sample")
        return np.concatenate(answers)[:count]
    # a call of one sample answers with one row
    single = answers[0].ndim > 1 and len(answers[0]) == 1
    return np.concatenate(answers) if single else np.stack(answers)


def energy_uj(root: Path) -> int | None:
    """Return what the processor's packages have used, microjoules; None where unreadable.

    Source: Linux's powercap interface, `intel-rapl:N/energy_uj` (Intel and AMD).
    """
    total = None
    for path in sorted(root.glob("intel-rapl:[0-9]/energy_uj")):
        try:
            total = (total or 0) + int(path.read_text())
        except (OSError, ValueError):
            return None
    return total


def _batches(
    inputs: dict[str, Array], total: int, batch: int
) -> Iterator[dict[str, Array]]:
    """Yield the samples; the last batch is filled up with its last sample."""
    for start in range(0, total, batch):
        rows = np.minimum(np.arange(start, start + batch), total - 1)
        yield {name: array[rows] for name, array in inputs.items()}


def _load(file: PlacedFile) -> dict[str, Array]:
    with contextlib.closing(OpenFile(file)):
        try:
            with np.load(file.path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (ValueError, OSError, KeyError, EOFError) as error:
            what = f"the samples {file.path} cannot be read: {error}"
            raise RefusedError("E_SAMPLES", what) from error


def _run(session: Session, feeds: dict[str, Array], names: list[str]) -> Array:
    try:
        answer = session.run(feeds, names)[0]
    except Exception as error:
        code = "E_MEMORY" if _is_memory(error) else "E_EVALUATION"
        raise RefusedError(code, f"it fails on a sample: {brief(error)}") from error
    if answer.dtype.kind == "f" and not np.isfinite(answer).all():
        raise RefusedError("E_NOT_FINITE", f"values of {names[0]!r} are not finite")
    return answer


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY)


def main() -> None:
    """Read, evaluate, answer."""
    # libraries that print must not garble the answer
    answer = os.dup(sys.stdout.fileno())
    with contextlib.redirect_stdout(sys.stderr):
        os.dup2(sys.stderr.fileno(), 1)
        try:
            found = evaluate(msgspec.json.decode(sys.stdin.buffer.read(), type=Task))
        except AgentError as error:
            code = "E_MEMORY" if _is_memory(error) else error.code
            found = Found(code=code, reason=error.what[:300])
    os.write(answer, msgspec.json.encode(found))
    os._exit(0)  # what was found stands; destroying a bad session might yet crash


if __name__ == "__main__":
    main()
