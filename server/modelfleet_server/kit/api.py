"""What a route asks for: sessions, time, parts.

`def` routes only (they run in threads); `async def` is for streams and must not touch a
session. Example:

    @router.post("/groups", status_code=201)
    def post_group(wish: GroupIn, session: WriteDep, actor: OperatorDep) -> GroupOut:
        return GroupOut.of(service.create_group(session, wish.name, actor=actor))

`WriteDep` commits after the route returned and before the answer is sent (scope
"function"): a client that got a 2xx may rely on it, and a failed commit becomes an error.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, TypeVar

from fastapi import Depends
from sqlmodel import Session
from starlette.requests import HTTPConnection

from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.parts import Parts

Part = TypeVar("Part")


def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts of the application that serves `connection`."""
    parts: Parts = connection.app.state.parts
    return parts


def given(kind: type[Part]) -> Callable[[HTTPConnection], Part]:
    """Return the dependency that finds a part of the server by its class.

    `BlobsDep = Annotated[BlobStore, Depends(given(BlobStore))]`
    """

    def find(connection: HTTPConnection) -> Part:
        return parts_of(connection).get(kind)

    return find


def given_if_any(kind: type[Part]) -> Callable[[HTTPConnection], Part | None]:
    """Return the dependency for a part that not every process has."""

    def find(connection: HTTPConnection) -> Part | None:
        return parts_of(connection).find(kind)

    return find


DatabaseDep = Annotated[Database, Depends(given(Database))]


def _read(database: DatabaseDep) -> Iterator[Session]:
    with database.read() as session:
        yield session


def _write(database: DatabaseDep) -> Iterator[Session]:
    with database.write() as session:
        yield session


ReadDep = Annotated[Session, Depends(_read, scope="function")]
"""A session that refuses to write."""

WriteDep = Annotated[Session, Depends(_write, scope="function")]
"""A session that commits when the route returns and rolls back when it raises."""

NowDep = Annotated[int, Depends(now_ms)]
"""Unix milliseconds."""
