"""What a route asks for: sessions, time, parts.

`def` routes only (they run in threads); `async def` is for streams and must not touch a
session. Routes write through `WriteDep`; a use case that opens `Database.write()` itself
gets its database by `WriterDatabaseDep`. Example:

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

WRITERS = 8
"""How many requests with a `WriteDep` run at once; the others wait without a thread.

The one that holds the writer's turn still needs a thread of the pool to check its answer
before it commits. If all 40 were taken by requests that wait for that turn, nobody would
move. So only a few may wait in threads; a test sends more writers than there are threads.
"""

WriteDep = Annotated[Session, Depends(_write, scope="function", max_concurrency=WRITERS)]
"""A session that commits when the route returns and rolls back when it raises."""


def _for_writing(database: DatabaseDep) -> Iterator[Database]:
    yield database


WriterDatabaseDep = Annotated[
    Database, Depends(_for_writing, scope="function", max_concurrency=WRITERS)
]
"""The database, for use cases that open `write()` themselves; a few requests at once."""

NowDep = Annotated[int, Depends(now_ms)]
"""Unix milliseconds."""
