"""What a kind of job does, and what follows from its end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from modelfleet_server.jobs.errors import UnknownKindError
from modelfleet_server.jobs.run import Run
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.errors import AppError


def _nothing(_session: Session, _job: Job, _what: object) -> None:
    return


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        name: Stored in every job; never rename it.
        work: Does the job, in steps of `Run.step`, and returns its result. What is outside
            of a step is done again after a kill: only decide there, by what steps
            returned. A step that was cut off is done again, so it must bear that. An
            `AppError` fails the job with its reason.
        on_done: Called with the result in the transaction that ends the job: both happen
            or neither, and once. An `AppError` in it fails the job.
        on_failed: Called in the transaction in which it failed or was cancelled, in any
            process of the server. Must not raise.
    """

    name: str
    work: Callable[[Run], Any]
    on_done: Callable[[Session, Job, Any], None] = _nothing
    on_failed: Callable[[Session, Job, AppError], None] = _nothing


class Kinds:
    """All kinds that there are; every process of the server has the same."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def register(self, kind: Kind) -> None:
        """Add a kind, before any engine starts."""
        if kind.name in self._kinds:
            raise ValueError(f"the kind {kind.name!r} is registered already")
        self._kinds[kind.name] = kind

    def get(self, name: str) -> Kind:
        """Return a kind.

        Raises:
            UnknownKindError: This release of the server has none of that name.
        """
        try:
            return self._kinds[name]
        except KeyError:
            raise UnknownKindError(
                f"this worker knows no jobs of the kind {name!r}",
                "Run all processes of the server with the same release.",
                kind=name,
            ) from None
