"""A message that arrived, and who handles it."""

from collections.abc import Callable
from dataclasses import dataclass

from paho.mqtt.client import topic_matches_sub
from sqlmodel import Session


@dataclass(frozen=True, slots=True)
class Message:
    """What a handler gets.

    Attributes:
        topic: As published.
        payload: As published; nothing is verified yet.
        device: The device that the topic names, None for other topics. Not proved.
        retained: Whether the broker had kept it, rather than it being published just now.
    """

    topic: str
    payload: bytes
    device: str | None = None
    retained: bool = False


Handler = Callable[[Session, list[Message]], None]
"""Called with the messages of one batch that match the filter, in order of arrival, inside
a write transaction. Idempotent: after a fault messages come again, alone or in another
batch. An exception drops the message that caused it, never others."""


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether the MQTT filter (`+`, `#`) takes in the topic."""
    return topic_matches_sub(topic_filter, topic)
