"""The process: starts in order, tells where it is, stops on a signal, or not at all."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.support.server import API, ServerUnderTest, begin_fleet

from modelfleet_server.app import Duty, Server
from modelfleet_server.app.wiring import Job
from modelfleet_server.kit.errors import ConflictError, InvalidError, UnavailableError
from modelfleet_server.settings import load_settings

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
from pathlib import Path
from modelfleet_server.app import Server
from modelfleet_server.settings import load_settings
arguments = {"port": 0, "broker": "embedded"}
Server(load_settings(Path(sys.argv[1]), environ={}, arguments=arguments)).run()
"""


def test_a_whole_server_answers_and_its_broker_is_connected(
    whole_server: ServerUnderTest,
) -> None:
    assert whole_server.client().get("/api/v1/health").json()["broker"] is True
    told = json.loads(whole_server.server.settings.address_file.read_text())
    assert told["url"] == whole_server.url
    assert told["pid"] == os.getpid()
    with socket.create_connection((told["mqtt"]["host"], told["mqtt"]["port"]), timeout=5):
        pass


def test_a_stopped_server_leaves_no_thread_no_address_and_can_start_again(
    tmp_path: Path,
) -> None:
    before = set(threading.enumerate())
    for _ in range(2):
        server = ServerUnderTest.start(tmp_path)
        assert server.client().get("/api/v1/health").status_code == 200
        server.stop()
        assert not (tmp_path / "server.json").exists()
        assert set(threading.enumerate()) <= before
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(server.url)


def test_the_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "fleet"
    server = ServerUnderTest.start(home, duties=API)
    server.stop()
    assert home.stat().st_mode & 0o077 == 0


def test_a_second_server_in_the_same_home_is_refused(server: ServerUnderTest) -> None:
    home = server.server.settings.home
    with pytest.raises(ConflictError, match=str(home)):
        ServerUnderTest.start(home, duties=API)
    assert server.client().get("/api/v1/health").status_code == 200


def test_a_taken_port_is_named_and_the_home_stays_as_it_was(tmp_path: Path) -> None:
    begin_fleet(load_settings(tmp_path, environ={}))
    before = contents(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=str(port)):
            ServerUnderTest.start(tmp_path, port=port)
    assert contents(tmp_path) == before


def contents(home: Path) -> dict[Path, bytes]:
    """Return every file but the empty lock files."""
    files = (path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: path.read_bytes() for path in files}


def test_a_broker_that_cannot_be_leaves_nothing_running(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as nobody_answers:
        port = nobody_answers.getsockname()[1]
    with pytest.raises(UnavailableError, match=str(port)):
        ServerUnderTest.start(tmp_path, broker=f"mqtt://127.0.0.1:{port}")
    with pytest.raises(InvalidError, match="pigeon"):
        ServerUnderTest.start(tmp_path, broker="pigeon")
    assert set(threading.enumerate()) <= before
    assert not (tmp_path / "server.json").exists()


class Recorder:
    """A background service that says when it starts and stops, or fails to start."""

    def __init__(self, name: str, seen: list[str], *, fails: bool = False) -> None:
        self.name, self.seen, self.fails = name, seen, fails

    def start(self) -> None:
        if self.fails:
            raise UnavailableError(f"{self.name} cannot start")
        self.seen.append(f"+{self.name}")

    def stop(self) -> None:
        self.seen.append(f"-{self.name}")


def test_services_start_in_order_and_stop_in_reverse_also_when_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fails = [False]
    jobs = (
        Job(Duty.WORKER, lambda _: Recorder("worker", seen)),
        Job(Duty.ROLLOUTS, lambda _: Recorder("loop", seen)),
        Job(Duty.WORKER, lambda _: Recorder("last", seen, fails=fails[0])),
    )
    monkeypatch.setattr("modelfleet_server.app.server.SERVICES", jobs)
    duties = frozenset({Duty.API, Duty.WORKER})
    ServerUnderTest.start(tmp_path, duties=duties).stop()
    assert seen == ["+worker", "+last", "-last", "-worker"]  # the loop is not its duty
    seen.clear()
    fails[0] = True
    with pytest.raises(UnavailableError, match="last"):
        ServerUnderTest.start(tmp_path, duties=duties)
    assert seen == ["+worker", "-worker"]


def test_parts_before_the_start_are_a_defect(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        _ = Server(load_settings(tmp_path, environ={})).parts


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    begin_fleet(load_settings(tmp_path, environ={}))
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    paths = os.pathsep.join(str(ROOT / name) for name in ("server", "manifests"))
    environ = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, env=environ) as process:
        yield process
        process.kill()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, "the server ended early"
        assert time.monotonic() < deadline, "the server did not come up"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(
    process: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    wait_for(tmp_path / "server.json", process)
    mqtt = json.loads((tmp_path / "server.json").read_text())["mqtt"]
    process.send_signal(number)
    assert process.wait(timeout=20) == 0
    assert not (tmp_path / "server.json").exists()
    with pytest.raises(OSError, match="refused"):  # the broker went with it
        socket.create_connection((mqtt["host"], mqtt["port"]), timeout=5)


def test_after_a_kill_the_next_server_starts_in_the_same_home(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    wait_for(tmp_path / "server.json", process)
    process.kill()
    process.wait(timeout=20)
    server = ServerUnderTest.start(tmp_path)
    assert server.client().get("/api/v1/health").json()["broker"] is True
    server.stop()
