"""A broker as our child: started, watched, started again, gone when we are gone."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.brokers import KINDS, kill, make_broker
from tests.support.system import ROOT
from tests.support.waiting import eventually

from modelfleet_server.broker.address import LOOPBACK, Address
from modelfleet_server.broker.child import ChildBroker, Command, Recipe, this_python
from modelfleet_server.broker.probe import SilentError, ask
from modelfleet_server.kit.errors import UnavailableError


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChildBroker]:
    broker = make_broker(request.param, tmp_path / "broker")
    yield broker
    broker.stop()


def answers(address: Address) -> bool:
    try:
        ask(address, timeout_s=1)
    except SilentError:
        return False
    return True


def listeners(port: int) -> set[str]:
    """Return the local addresses on which somebody listens on `port`."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            host, _, hex_port = local.partition(":")
            if int(hex_port, 16) == port and state == "0A":
                found.add(host)
    return found


def test_it_answers_on_the_loopback_address_and_on_no_other(broker: ChildBroker) -> None:
    address = broker.start()
    assert address.host == LOOPBACK
    assert answers(address)
    assert listeners(address.port) == {"0100007F"}


def test_a_child_that_is_killed_is_started_again_on_the_same_port(
    broker: ChildBroker,
) -> None:
    address, first = broker.start(), broker.pid
    kill(broker)
    assert broker.alive
    assert broker.pid != first
    assert broker.address == address


def test_stop_ends_the_child_and_frees_the_port(broker: ChildBroker) -> None:
    address = broker.start()
    broker.stop()
    assert not broker.alive
    assert listeners(address.port) == set()
    broker.stop()  # once more is no error


def test_a_later_start_keeps_the_port_that_devices_remember(broker: ChildBroker) -> None:
    first = broker.start()
    broker.stop()
    again = ChildBroker(broker.recipe, broker.folder)
    try:
        assert again.start() == first
    finally:
        again.stop()


def test_a_remembered_port_that_is_taken_is_passed_over(broker: ChildBroker) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        broker.folder.mkdir()
        port = taken.getsockname()[1]
        (broker.folder / "port").write_text(f"{port}\n")
        assert broker.start().port != port


def test_a_fixed_port_that_is_taken_is_an_error_that_names_it(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        broker = ChildBroker(make_broker("embedded", tmp_path).recipe, tmp_path, port=port)
        with pytest.raises(UnavailableError, match=f"port {port} of 127.0.0.1 is in use"):
            broker.start()
    assert not broker.alive


STARTER = """
import os, signal, sys
from pathlib import Path
from tests.support.brokers import make_broker

broker = make_broker(sys.argv[1], Path(sys.argv[2]))
print(broker.start().port, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_child_dies_with_a_server_that_is_killed(kind: str, tmp_path: Path) -> None:
    make_broker(kind, tmp_path)  # skips here, not in the child
    path = os.pathsep.join(str(ROOT / part) for part in ("", "server", "manifests"))
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, kind, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        address = Address(LOOPBACK, int(server.stdout.readline()))
        assert answers(address)
        server.send_signal(signal.SIGKILL)
    eventually(lambda: not listeners(address.port), "nobody listens any more")


class Broken(Recipe):
    """A broker that does not like its configuration."""

    name = "broken"

    def prepare(self, folder: Path, address: Address) -> Command:
        del folder, address
        return this_python("exec", "/bin/sh", "-c", "echo unknown option >&2; exit 3")


def test_a_child_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"broken broker did not start.*unknown option"
    ):
        ChildBroker(Broken(), tmp_path).start()


class Mute(Recipe):
    """A program that runs and never listens."""

    name = "mute"

    def prepare(self, folder: Path, address: Address) -> Command:
        del folder, address
        return this_python("exec", "/bin/sleep", "600")


def test_a_child_that_never_answers_is_ended_and_named(tmp_path: Path) -> None:
    broker = ChildBroker(Mute(), tmp_path)
    with pytest.raises(
        UnavailableError, match=r"mute broker did not start.*does not answer"
    ):
        broker.start(timeout_s=0.3)
    assert not broker.alive


def test_the_embedded_broker_says_what_it_lacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker("embedded", tmp_path)
    with caplog.at_level(logging.WARNING):
        broker.start()
    broker.stop()
    assert "no access lists, no certificates and no memory" in caplog.text
