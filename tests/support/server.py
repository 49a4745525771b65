"""A real server for tests: real app, real SQLite, real sockets, on a temporary home.

Fixtures (loaded for everything below `tests/server`; elsewhere import them):

* `database`: an empty database with all tables, no server.
* `blobs`: a blob store in a directory.
* `server`: a `ServerUnderTest` that does the API only (no broker). It has
  `parts` (`server.parts.get(Database)`), `database`, `blobs`, `url`, and
  `client(Role.OPERATOR)`: an `httpx2.Client` with the token of a user of that role;
  `client()` shows no credentials.
* `whole_server`: the same with a broker (embedded) and all background services.

`ServerUnderTest.start(home, duties=..., **settings)` for servers that are started and
stopped several times.
"""

import atexit
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Self

import httpx2
import pytest

from modelfleet_server import migrations
from modelfleet_server.app import Duty, Server
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.identity import service
from modelfleet_server.identity.domain import HOUR_MS, TokenKind
from modelfleet_server.identity.tables import User
from modelfleet_server.kit.access import Actor, Role, system
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.parts import Parts
from modelfleet_server.settings import Settings, load_settings
from modelfleet_server.trust.approver import Cost
from modelfleet_server.trust.ceremony import init_solo

PASSPHRASE = "correct horse battery staple"
CHEAP = Cost(passes=1, memory=8 * 1024 * 1024)
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Given to clients, which otherwise read the machine's certificates, 25 ms each."""

API = frozenset({Duty.API, Duty.SIGNER})
"""What answers HTTP, and can sign."""

PASSWORD_HASH = "$argon2id$no-password-opens-this"


class ServerUnderTest:
    """A started server and clients for it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._clients = ExitStack()

    @classmethod
    def start(
        cls, home: Path, *, duties: frozenset[Duty] = frozenset(Duty), **settings: object
    ) -> Self:
        """Start one; `settings` by name replace what suits tests."""
        arguments = {"port": 0, "broker": "embedded"} | settings
        found = load_settings(home, environ={}, arguments=arguments)
        if not found.online_key.exists():
            begin_fleet(found)
        server = Server(found, duties)
        server.start()
        return cls(server)

    @property
    def parts(self) -> Parts:
        return self.server.parts

    @property
    def database(self) -> Database:
        return self.parts.get(Database)

    @property
    def blobs(self) -> BlobStore:
        return self.parts.get(BlobStore)

    @property
    def url(self) -> str:
        return self.server.endpoints.url

    def client(self, role: Role | None = None) -> httpx2.Client:
        """Return a client that acts as a user of `role`, or as nobody."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.token(role)}"}
        client = httpx2.Client(
            base_url=self.url, headers=headers, timeout=30, verify=NO_TLS
        )
        return self._clients.enter_context(client)

    def token(self, role: Role) -> str:
        """Return a bearer token of a user of `role`, who is called like the role."""
        return make_token(self.database, role)

    def stop(self) -> None:
        """Close the clients and stop the server."""
        self._clients.close()
        self.server.stop()


def make_token(database: Database, role: Role, name: str | None = None) -> str:
    """Make a user of `role` if there is none yet, and a token; hashes no password."""
    name = name or role.value
    with database.write() as session:
        if session.get(User, name) is None:
            session.add(
                User(name=name, role=role, password_hash=PASSWORD_HASH, created_ms=now_ms())
            )
            session.flush()
        owner = Actor(name, role)
        issued = service.issue(
            session, owner, TokenKind.API, "test", at_ms=now_ms(), life_ms=HOUR_MS
        )
    return issued.secret


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = make_database(tmp_path / "modelfleet.db")
    yield database
    database.close()


def begin_fleet(settings: Settings) -> None:
    """Do what `modelfleet init --solo` does, with a passphrase that is cheap to guess.

    All fleets of a test process are copies of one, with its keys: a test that needs two
    fleets that are strangers to each other holds a ceremony of its own.
    """
    if settings.database_url == Settings(settings.home).database_url:
        shutil.copytree(_begun(), settings.home, dirs_exist_ok=True)
        settings.home.chmod(0o700)
    else:
        _hold_ceremony(settings)


def make_database(path: Path) -> Database:
    """Return a new database at `path`, with all tables."""
    shutil.copyfile(_with_tables(), path)
    return Database(f"sqlite:///{path}")


@cache
def _begun() -> Path:
    """Return a home to copy: migrations and keys cost as much as most tests."""
    settings = Settings(_templates() / "fleet")
    _hold_ceremony(settings)
    return settings.home


def _hold_ceremony(settings: Settings) -> None:
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database_url)
    migrations.upgrade(database)
    with database.write() as session:
        init_solo(
            session,
            online_path=settings.online_key,
            approver_path=settings.home / "approver.key",
            passphrase=PASSPHRASE,
            now_ms=now_ms(),
            cost=CHEAP,
        )
    database.close()


@cache
def _with_tables() -> Path:
    path = _templates() / "tables.db"
    database = Database(f"sqlite:///{path}")
    migrations.create_all(database)
    database.close()
    return path


@cache
def _templates() -> Path:
    """Return a folder that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="modelfleet-templates-"))
    atexit.register(shutil.rmtree, folder)
    return folder


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "blobs").as_uri(), tmp_path / "incoming")


@pytest.fixture
def actor() -> Actor:
    return system("test")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerUnderTest]:
    started = ServerUnderTest.start(tmp_path / "fleet", duties=API)
    yield started
    started.stop()


@pytest.fixture
def whole_server(tmp_path: Path) -> Iterator[ServerUnderTest]:
    started = ServerUnderTest.start(tmp_path / "fleet")
    yield started
    started.stop()
