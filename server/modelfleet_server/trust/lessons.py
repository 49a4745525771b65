"""Shows the signer what people signed, when it has not seen it yet."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from sqlmodel import Session, col, select

from modelfleet_server.trust import store
from modelfleet_server.trust.signer.domain import LacksError, RoleFile, Signer
from modelfleet_server.trust.tables import TrustMetadata

T = TypeVar("T")
UNTOLD = frozenset({"root", "snapshot", "timestamp"})


def taught(session: Session, signer: Signer, ask: Callable[[], T]) -> T:
    """Return what `ask` does; where the signer lacks a file, show it all and ask again.

    Raises:
        AppError: What `ask` raises.
    """
    try:
        return ask()
    except LacksError:
        signer.learn(list(lessons(session)))
        return ask()


def lessons(session: Session) -> Iterator[RoleFile]:
    """Yield all roots, then the file in force of each role, delegating roles first."""
    roots = session.exec(
        select(TrustMetadata)
        .where(TrustMetadata.role == "root")
        .order_by(col(TrustMetadata.version))
    )
    yield from (RoleFile(row.role, row.data) for row in roots)
    rows = [row for row in store.newest_of_all(session) if row.role not in UNTOLD]
    for row in sorted(rows, key=lambda row: rank(row.role)):
        yield RoleFile(row.role, row.data)


def rank(role: str) -> tuple[int, str]:
    """Return what sorts delegating roles before those that they delegate."""
    top = ("root", "targets")
    return (top.index(role) if role in top else 2 + role.count("/"), role)
