"""Which broker: the one place that reads the setting."""

from pathlib import Path
from typing import Protocol

from modelfleet_server.broker import embedded, mosquitto
from modelfleet_server.broker.address import Address, read_address
from modelfleet_server.broker.child import ChildBroker
from modelfleet_server.broker.outside import OutsideBroker
from modelfleet_server.kit.errors import InvalidError

AUTO = "auto"


class Broker(Protocol):
    """A broker while the server needs it."""

    @property
    def alive(self) -> bool:
        """Whether it can be expected to answer now."""

    def start(self, timeout_s: float = ...) -> Address:
        """Have it answer, and return where. Bounded in time.

        Raises:
            UnavailableError: It does not answer; names the address.
        """

    def stop(self) -> None:
        """End what `start` began. May be called twice, or without `start`."""


def open_broker(choice: str, folder: Path, *, port: int = 0) -> Broker:
    """Return the broker that the settings ask for; nothing is started yet.

    Args:
        choice: `auto` (Mosquitto where it is installed, else embedded), `embedded`,
            `mosquitto`, or `mqtt://host:port` of one that runs elsewhere.
        folder: For configuration, log and Mosquitto's memory; made when missing.
        port: Where a child listens; 0 picks a free port and keeps to it in later starts as
            long as it stays free, since devices remember it.

    Raises:
        InvalidError: Another word, a bad address, or the broker asked for is not installed.
    """
    if "://" in choice:
        return OutsideBroker(read_address(choice))
    if choice not in (AUTO, embedded.NAME, mosquitto.NAME):
        raise InvalidError(
            f"broker {choice!r} is not known",
            "Use auto, embedded, mosquitto or mqtt://host:port.",
        )
    program = None if choice == embedded.NAME else mosquitto.find_program()
    if program is not None:
        return ChildBroker(mosquitto.Mosquitto(program), folder, port=port)
    if choice == mosquitto.NAME:
        raise InvalidError(
            "broker mosquitto: the program is not installed",
            "Install it (apt install mosquitto), or use embedded or mqtt://host:port.",
        )
    if not embedded.is_installed():
        raise InvalidError(
            f"broker {choice}: the Python package iotcore is not installed",
            'Install it (pip install "modelfleet[server]"), or use mosquitto or'
            " mqtt://host:port.",
        )
    return ChildBroker(embedded.Embedded(), folder, port=port)
