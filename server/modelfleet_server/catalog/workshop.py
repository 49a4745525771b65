"""What the catalog needs of `builds`, which lies above; the composition root fills it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlmodel import Session

from modelfleet_manifests.release import Schema


class Queue(Protocol):
    """Asks for variants of a version, in the transaction that makes the version."""

    def __call__(
        self,
        session: Session,
        version_id: str,
        profiles: Sequence[str],
        *,
        actor: str,
        at_ms: int,
    ) -> object:
        """Queue one build per profile.

        Raises:
            AppError: There is no recipe for one of them.
        """


@dataclass(frozen=True, slots=True)
class Workshop:
    """A part of the server.

    Attributes:
        inspect: Checks a master, by its digest, and returns its inputs and outputs; takes
            seconds and raises `AppError` when the file is refused. No transaction is open.
        queue: Asks for variants.
        profiles: What is built where nothing is said.
    """

    inspect: Callable[[str], Schema]
    queue: Queue
    profiles: tuple[str, ...]
