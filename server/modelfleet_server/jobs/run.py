"""What the work of a job gets: payload, steps, progress, and when to stop."""

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from modelfleet_server.jobs.domain import Progress
from modelfleet_server.jobs.errors import StopRunError
from modelfleet_server.jobs.tables import Job

log = logging.getLogger(__name__)

T = TypeVar("T")
Keep = Callable[[str, Callable[[], str]], str]
"""Runs the step of that name and keeps the text it returns; or returns what was kept."""


class Ticket(NamedTuple):
    """Who may write about a job: whoever began it last."""

    job_id: str
    executor: str
    start: int


class _StepError(BaseException):
    """Carries a step's error past DBOS, which would write it down as its outcome."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Run:
    """One attempt to do a job.

    Attributes:
        job: As it was when the run began.
        stop: Set when the run must end: long steps look at it, and end by any exception.
    """

    def __init__(self, job: Job, keep: Keep, note: Callable[[Progress], bool]) -> None:
        """Make one.

        Args:
            job: What to do.
            keep: Runs steps.
            note: Shows progress; returns whether the job is still this run's.
        """
        self.job = job
        self.stop = threading.Event()
        self._keep = keep
        self._note = note

    def payload(self, kind: type[T]) -> T:
        """Return what `submit` was given, as a `kind`."""
        return msgspec.json.decode(self.job.payload_json, type=kind)

    def step(self, name: str, do: Callable[[], T], kind: type[T]) -> T:
        """Do a step and keep its result, or return the result that was kept.

        Steps must come in the same order in every run of a job; loops and branches may
        depend on the payload and on results of steps only.

        Args:
            name: Of the step, the same each time; shown in no list.
            do: Does it. An exception fails the step, and is not kept.
            kind: What it returns; anything that msgspec turns into JSON, a few KB.

        Raises:
            StopRunError: The run must end.
        """
        self.check()
        try:
            text = self._keep(name, lambda: self._guarded(do))
        except _StepError as failed:
            self.check()
            raise failed.error from None
        self.check()
        return msgspec.json.decode(text, type=kind)

    def progress(self, step: str, done: int, of: int) -> None:
        """Show how far the job is.

        Raises:
            StopRunError: The run must end.
        """
        self.check()
        if not self._note(Progress(step, done, of)):
            self.stop.set()
        self.check()

    def check(self) -> None:
        """Raise where the run must end.

        Raises:
            StopRunError: The server stops, or the job is no longer this run's.
        """
        if self.stop.is_set():
            raise StopRunError

    def _guarded(self, do: Callable[[], Any]) -> str:
        try:
            return msgspec.json.encode(do()).decode()
        except Exception as error:
            raise _StepError(error) from error
