"""The MQTT session: one thread of paho's, and a queue of what happens."""

import queue
from collections.abc import Collection
from dataclasses import dataclass

from modelfleet_agent.enrol import Enrolment


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The session is up; subscriptions are sent. What is pending should be sent again."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session is down; it reconnects by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker took what `Session.publish` gave this number."""

    number: int


Event = Arrived | Connected | Disconnected | Delivered


class Session:
    """Everything that happens is put into `events`; nothing is handled in paho's thread."""

    def __init__(self, enrolment: Enrolment, events: "queue.Queue[Event]") -> None:
        """Prepare; nothing is sent before `start`."""
        raise NotImplementedError

    def start(self) -> None:
        """Connect in the background, and again with full jitter whenever it is lost."""

    def stop(self) -> None:
        """Say that the device leaves, disconnect and end the thread."""

    def set_groups(self, groups: Collection[str]) -> None:
        """Listen to the deployments of exactly these group ids. Idempotent."""

    def publish(self, kind: str, payload: bytes) -> int | None:
        """Send a `report` or `telemetry` (QoS 1); None where the session is down.

        Returns:
            The number that `Delivered` will carry.
        """
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        """The session is up."""
        raise NotImplementedError
