"""The signer as a process: who has the keys, what a crash does, what noise does."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.fleet import begin
from tests.support.server import API, ServerUnderTest, begin_fleet, make_database
from tests.support.waiting import eventually

from modelfleet_server.app import Duty
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.errors import UnavailableError
from modelfleet_server.settings import load_settings
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.online import read_rings
from modelfleet_server.trust.signer import wire
from modelfleet_server.trust.signer.child import SignerChild
from modelfleet_server.trust.signer.domain import RefusedError, SignerAwayError
from modelfleet_server.trust.signer.remote import RemoteSigner, connect

WATCHED = """
import sys
from pathlib import Path

opened = []

def note(event, args):
    if event == "open":
        opened.append(str(args[0]))

sys.addaudithook(note)
from modelfleet_server.app import Server
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.settings import load_settings
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.publishing import keep_fresh

arguments = {"port": 0, "broker": "embedded"}
server = Server(load_settings(Path(sys.argv[1]), environ={}, arguments=arguments))
server.start()
signer = server.parts.get(Director).signer
with server.parts.get(Database).write() as session:
    assert keep_fresh(session, signer, now_ms() + 86_400_000 - 100)
keys = [one for one in opened if "online.key" in one]
print(len(opened) > 100, keys, flush=True)
sys.stdin.readline()
server.stop()
"""


def _begin(folder: Path) -> SignerChild:
    """Begin a fleet in `folder` and start its signer there."""
    database = make_database(folder / "db")
    begin(database, folder)
    database.close()
    child = SignerChild(folder / "keys" / "online.key", folder / "signer.sock")
    child.start()
    child.wait_ready()
    return child


@pytest.fixture
def child(tmp_path: Path) -> Iterator[SignerChild]:
    """A signer of its own, to be stopped or killed."""
    child = _begin(tmp_path)
    yield child
    child.stop()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a signer listens that outlives what a test does to it."""
    folder = tmp_path_factory.mktemp("signer")
    child = _begin(folder)
    yield folder / "signer.sock"
    child.stop()


def test_the_server_never_opens_the_online_keys_nor_holds_them_in_its_memory(
    tmp_path: Path,
) -> None:
    settings = load_settings(tmp_path, environ={})
    begin_fleet(settings)
    [ring] = read_rings(settings.online_key)
    seeds = [getattr(ring.keys, role).seed for role in ring.keys.public()]
    with subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        areas = list(_memory_of(process.pid))
        process.communicate("\n", timeout=60)
    assert said == "True []"
    assert any(str(tmp_path).encode() in area for area in areas)  # it is that memory
    for seed in seeds:
        assert not any(seed in area or seed.hex().encode() in area for area in areas)


def _memory_of(pid: int) -> Iterator[bytes]:
    """Yield what a process may write to, area by area."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            area = re.match("([0-9a-f]+)-([0-9a-f]+) rw", line)
            if area is None or "[v" in line:
                continue
            start, end = (int(text, 16) for text in area.groups())
            memory.seek(start)
            with suppress(OSError):  # guard pages
                yield memory.read(end - start)


def test_the_socket_is_for_its_owner_only_and_gone_afterwards(
    child: SignerChild, tmp_path: Path
) -> None:
    path = tmp_path / "signer.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    child.stop()
    assert not path.exists()


HIDDEN = """
import ctypes
from modelfleet_server.trust.signer.__main__ import hide

dumpable = ctypes.CDLL(None).prctl
before = dumpable(3, 0, 0, 0, 0)
hide()
print(before, dumpable(3, 0, 0, 0, 0))
"""
"""PR_GET_DUMPABLE: where it is 0 no other process of the user may read the memory."""


def test_other_processes_of_the_user_cannot_read_its_memory(child: SignerChild) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "0"]
    if os.geteuid():  # root may read everything
        with pytest.raises(PermissionError):
            Path(f"/proc/{child.pid}/mem").read_bytes()


def test_a_signer_that_dies_is_started_again_and_goes_on_where_it_was(
    child: SignerChild, tmp_path: Path
) -> None:
    signer = RemoteSigner(tmp_path / "signer.sock", patience_s=30)
    before, pid = signer.greet(), child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert signer.greet() == before
    assert child.pid not in {None, pid}
    signer.close()


def test_without_a_signer_the_error_says_what_to_start(tmp_path: Path) -> None:
    signer = RemoteSigner(tmp_path / "signer.sock", patience_s=0)
    with pytest.raises(SignerAwayError, match="--role signer"):
        signer.greet()


def test_keys_that_are_missing_or_taken_are_named_at_the_start(
    path: Path, tmp_path: Path
) -> None:
    taken = path.parent / "keys" / "online.key"
    for keys, why in ((tmp_path / "none.key", "none.key"), (taken, "another signer")):
        other = SignerChild(keys, tmp_path / "other.sock")
        other.start()
        with pytest.raises(UnavailableError, match=why):
            other.wait_ready()
        other.stop()


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\xc1", b"\0\0\0\5ab", b"\xff" * 64, b""]
)
def test_noise_closes_one_connection_and_harms_no_other(path: Path, noise: bytes) -> None:
    with connect(path) as stranger:
        stranger.settimeout(20)
        stranger.sendall(noise)
        stranger.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
    signer = RemoteSigner(path)
    assert signer.greet().fleet
    signer.close()


def test_what_the_signer_refuses_is_raised_where_it_was_asked(path: Path) -> None:
    signer = RemoteSigner(path)
    with pytest.raises(RefusedError, match="no documents of kind 'release'"):
        signer.sign_documents("release", [b"{}"], [])
    with connect(path) as raw:
        wire.send(raw, wire.Learn([("root", b"{}")]))
        answer = wire.receive_answer(raw)
    assert isinstance(answer, wire.Refused)
    signer.close()


def test_a_server_goes_on_when_its_signer_was_killed(server: ServerUnderTest) -> None:
    child = server.parts.get(SignerChild)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    assert server.parts.get(Director).known
    eventually(lambda: child.restarts == 1, "the signer was started again")
    assert server.client(Role.VIEWER).get("/api/v1/trust").status_code == 200


def test_a_server_without_the_signers_duty_asks_the_one_in_its_home(
    server: ServerUnderTest,
) -> None:
    home = server.server.settings.home
    assert Duty.SIGNER in API
    second = ServerUnderTest.start(home, duties=frozenset({Duty.ROLLOUTS}))
    director = second.parts.get(Director)
    assert director.fleet == server.parts.get(Director).fleet
    second.stop()
