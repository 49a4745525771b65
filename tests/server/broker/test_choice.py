"""Which broker the settings mean, and brokers that are not ours."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.brokers import make_broker

from modelfleet_server.broker.address import Address, read_address
from modelfleet_server.broker.child import ChildBroker
from modelfleet_server.broker.choice import open_broker
from modelfleet_server.broker.mosquitto import Mosquitto
from modelfleet_server.broker.outside import OutsideBroker
from modelfleet_server.broker.ports import free_port
from modelfleet_server.kit.errors import InvalidError, UnavailableError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker.example:1884", Address("broker.example", 1884)),
        ("mqtt://broker.example", Address("broker.example", 1883)),
        ("mqtt://[::1]:1884", Address("::1", 1884)),
    ],
)
def test_an_address_is_read(url: str, address: Address) -> None:
    assert read_address(url) == address
    assert read_address(str(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://broker:1883",
        "mqtts://broker",
        "mqtt://",
        "mqtt://broker:port",
        "mqtt://broker:70000",
        "mqtt://user:secret@broker",
        "mqtt://broker/topic",
    ],
)
def test_what_is_no_address_is_refused_by_name(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidError) as caught:
        open_broker(url, tmp_path)
    assert repr(url) in caught.value.what
    assert "mqtt://host:port" in caught.value.hint


def test_an_unknown_word_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"'rabbit' is not known.*auto, embedded"):
        open_broker("rabbit", tmp_path)


def test_auto_takes_mosquitto_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mosquitto"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    broker = open_broker("auto", tmp_path)
    assert isinstance(broker, ChildBroker)
    assert isinstance(broker.recipe, Mosquitto)
    assert broker.recipe.program == program


def test_embedded_stays_embedded_where_mosquitto_is_installed(tmp_path: Path) -> None:
    broker = open_broker("embedded", tmp_path)
    assert isinstance(broker, ChildBroker)
    assert broker.recipe.name == "embedded"


def test_nothing_is_written_before_the_start(tmp_path: Path) -> None:
    open_broker("embedded", tmp_path / "broker")
    assert not (tmp_path / "broker").exists()


def test_an_outside_broker_that_answers_is_used_as_it_is(tmp_path: Path) -> None:
    child = make_broker("embedded", tmp_path)
    address = child.start()
    try:
        broker = open_broker(str(address), tmp_path)
        assert broker.start() == address
        assert broker.alive
        broker.stop()
        assert child.alive
    finally:
        child.stop()


def test_an_outside_broker_that_is_away_is_an_error_that_names_it(tmp_path: Path) -> None:
    address = f"mqtt://127.0.0.1:{free_port()}"
    broker = open_broker(address, tmp_path)
    with pytest.raises(UnavailableError, match=f"broker {address} cannot be used.*refused"):
        broker.start(timeout_s=0.5)
    assert not broker.alive


@contextmanager
def listener(answer: bytes | None) -> Iterator[Address]:
    """Something that says `answer` to whoever comes and hangs up; None: says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            kept = []
            while True:
                try:
                    plug, _ = server.accept()
                except OSError:
                    break
                plug.recv(1024)
                if answer is None:
                    kept.append(plug)
                    continue
                plug.sendall(answer)
                plug.close()
            for plug in kept:
                plug.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address(*server.getsockname())
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer as an MQTT 5 broker"),
        (b"", "closes the connection to an MQTT 5 client"),
        (bytes([0x20, 0x03, 0x00, 0x87, 0x00]), "refuses clients: MQTT 5 reason 0x87"),
        (None, "timed out"),
    ],
)
def test_what_listens_there_and_is_no_broker_for_us_is_told(
    answer: bytes | None, words: str
) -> None:
    with listener(answer) as address, pytest.raises(UnavailableError, match=words):
        OutsideBroker(address).start(timeout_s=0.5)
