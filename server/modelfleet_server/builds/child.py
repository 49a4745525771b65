"""The limited child: the only process of the server that parses, quantizes or runs models.

`python -m modelfleet_server.builds.child` reads one `Order` from standard input, limits
itself before it touches any file, and writes lines of `Answer`: progress, then one result
or error. Exit code 0 means that the last line is the answer.
"""

import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from modelfleet_server.builds.errors import ChildError, to_answer
from modelfleet_server.builds.messages import (
    Answer,
    AnswerJob,
    GradeJob,
    InspectJob,
    Job,
    Limits,
    Order,
    PatchJob,
    PlainJob,
    VerifyJob,
    WeighJob,
)
from modelfleet_server.jobs.domain import Progress
from modelfleet_server.kit.errors import InvalidError

_PR_SET_PDEATHSIG = 1
_MIB = 1 << 20
Say = Callable[[Answer], None]


def limit(limits: Limits, parent: int) -> None:
    """Take the limits, and die with the parent; nothing of this can be taken back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
        sys.exit("the parent is gone")
    if limits.memory_mb is not None:
        _set(resource.RLIMIT_AS, limits.memory_mb * _MIB)
    # soft before hard: SIGXCPU tells the reason, SIGKILL a second later is certain
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))
    _set(resource.RLIMIT_FSIZE, limits.file_mb * _MIB)
    _set(resource.RLIMIT_NOFILE, limits.files)
    _set(resource.RLIMIT_CORE, 0)


def _set(what: int, value: int) -> None:
    resource.setrlimit(what, (value, value))


def work(job: Job, say: Say) -> Answer:
    """Do the job in the working directory and return the answer."""
    if isinstance(job, InspectJob):
        from modelfleet_server.builds.packing import inspect  # noqa: PLC0415 limits first

        packed = None if job.packed is None else Path(job.packed)
        return Answer(facts=inspect(Path(job.model), packed))
    if isinstance(job, PlainJob):
        from modelfleet_server.builds.plain import try_out  # noqa: PLC0415 limits first

        try_out(Path(job.model), job.schema)
        return Answer(ran=True)
    if isinstance(job, AnswerJob | GradeJob):
        return _score(job)
    if isinstance(job, VerifyJob):
        from modelfleet_server.builds.verifying import verify  # noqa: PLC0415 limits first

        return Answer(verdict=verify(job, Path.cwd()))
    if isinstance(job, WeighJob | PatchJob):
        return _patch(job)
    from modelfleet_server.builds.making import make  # noqa: PLC0415 limits first

    def tell(progress: Progress) -> None:
        say(Answer(progress=(progress.step, progress.done, progress.of)))

    return Answer(built=make(job, Path.cwd(), tell))


def _score(job: AnswerJob | GradeJob) -> Answer:
    from modelfleet_server.builds import scoring  # noqa: PLC0415 limits first

    if isinstance(job, AnswerJob):
        return Answer(answered=scoring.answer(job))
    return Answer(scores=scoring.grade(job))


def _patch(job: WeighJob | PatchJob) -> Answer:
    from modelfleet_server.builds import patches  # noqa: PLC0415 limits first

    if isinstance(job, WeighJob):
        return Answer(weights=[patches.weigh(pair) for pair in job.pairs])
    return Answer(patches=patches.make_patches(job.pairs, Path.cwd()))


def main() -> None:
    """Read the order, answer it."""
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    # libraries that print must not spoil the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    limit(order.limits, order.parent)

    def say(answer: Answer) -> None:
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()

    try:
        say(work(order.job, say))
    except InvalidError as error:
        say(Answer(error=to_answer(error)))
    except MemoryError:
        refused = ChildError(
            f"it needs more than {order.limits.memory_mb} MiB of memory",
            "Give builds more memory in the settings, or publish a smaller model.",
        )
        say(Answer(error=to_answer(refused)))


if __name__ == "__main__":
    main()
