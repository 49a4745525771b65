"""Real databases for tests: an SQLite file, and a PostgreSQL cluster of one's own.

`postgresql` is a fixture per file of tests, each test a database in it; where there is
no PostgreSQL, it skips by name. The cluster listens on a Unix socket only.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from tests.support import system
from tests.support.system import require_postgresql
from tests.support.waiting import eventually

UNPACKED = system.UNPACKED.parent / "postgresql"
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",  # these clusters live for seconds
    "full_page_writes": "off",
    "max_connections": "400",
    "shared_buffers": "32MB",
}
_numbers = count()


class Cluster(NamedTuple):
    """A running PostgreSQL."""

    sockets: Path
    process: subprocess.Popen[bytes]

    def make(self) -> str:
        """Return the URL of a new and empty database."""
        name = f"fleet{next(_numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._url(name).replace("postgresql:", "postgresql+psycopg:")

    def answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, name: str) -> str:
        return f"postgresql://fleet@/{name}?host={self.sockets}"


def start_cluster(folder: Path) -> Cluster:
    """Start one in a new directory; its files go to an account that is not root's."""
    tools = require_postgresql()
    account = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        account = pwd.getpwnam("nobody").pw_uid
        os.chown(folder, account, -1)
    data = folder / "data"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
    if UNPACKED in tools.parents:
        libraries = {str(one.parent) for one in (UNPACKED / "root").rglob("*.so*")}
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(sorted(libraries))
    subprocess.run(
        [tools / "initdb", "-D", data, "-U", "fleet", "-A", "trust", "-E", "UTF8", "-N"],
        check=True,
        capture_output=True,
        user=account,
        env=environment,
        cwd=folder,
    )
    options = [f"-c{name}={value}" for name, value in _OPTIONS.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [tools / "postgres", "-D", data, "-k", folder, *options],
            stdout=subprocess.DEVNULL,
            stderr=log,
            user=account,
            env=environment,
            cwd=folder,
        )
    cluster = Cluster(folder, process)
    eventually(cluster.answers, "PostgreSQL answers")
    return cluster


def stop_cluster(cluster: Cluster) -> None:
    cluster.process.send_signal(signal.SIGINT)  # fast: clients are cut off
    cluster.process.wait(20)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Cluster]:
    require_postgresql()
    # a short path: names of sockets have at most 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="mf-pg-"))
    cluster = start_cluster(folder)
    yield cluster
    stop_cluster(cluster)
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a new database, one test for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'modelfleet.db'}"
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.make()
