"""Which documents a device has seen: it never takes an older one, also if it lost its own.

The order of each topic's newest document is kept apart from the document. Where both are
lost, nothing tells an old assignment from the newest: then the device makes a nonce, says
it in its reports, and believes the first assignment that repeats it.
"""

import secrets
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from modelfleet_agent import fsio
from modelfleet_agent.enrol import FRESH, ORDERS
from modelfleet_agent.journal import Pages, read_value
from modelfleet_manifests.header import Order
from modelfleet_manifests.report import Held

PAGE = 1 << 13


class _Seen(msgspec.Struct, frozen=True):
    """What is on disk.

    Attributes:
        challenge: The nonce that an assignment has to repeat; empty where none has to.
        topics: By topic, the newest document that was ever held.
    """

    challenge: str = ""
    topics: dict[str, Held] = {}


class Orders:
    """The newest order by topic, durable. Used by one thread."""

    def __init__(self, directory: Path) -> None:
        """Read what is known; `adopt` says what to make of nothing.

        Args:
            directory: Of the agent.
        """
        self._fresh = directory / FRESH
        self._pages = Pages(directory / ORDERS, size=PAGE)
        self._seen = read_value(self._pages, _Seen, _Seen())
        self._known = self._pages.sound

    @property
    def challenge(self) -> str:
        """The nonce that the next assignment has to repeat, "" where it has not."""
        return self._seen.challenge

    def newest(self, topic: str) -> tuple[Order, str] | None:
        """Return order and digest of the newest document that was held."""
        held = self._seen.topics.get(topic)
        return None if held is None else (Order(held.epoch, held.counter), held.digest)

    def adopt(self, held: Mapping[str, Held], own: str) -> None:
        """Go on from the documents on disk; ask for a new assignment where all is lost.

        Args:
            held: Verified documents by topic.
            own: Topic of the assignment.

        Raises:
            RetryableError: The disk is in the way.
        """
        newest = dict(self._seen.topics)
        for topic, one in held.items():
            before = self.newest(topic)
            if before is None or before[0] < (one.epoch, one.counter):
                newest[topic] = one
        challenge = self._seen.challenge
        if not self._known and own not in held and not self._fresh.exists():
            challenge = secrets.token_hex(16)
        self._write(_Seen(challenge, newest))
        self._known = True
        if self._fresh.exists():
            fsio.remove(self._fresh)

    def note(self, topic: str, held: Held, *, answered: bool = False) -> None:
        """Remember a document that is to be held; `answered` ends the challenge.

        Raises:
            RetryableError: The disk is in the way.
        """
        challenge = "" if answered else self._seen.challenge
        self._write(_Seen(challenge, self._seen.topics | {topic: held}))

    def forget(self, topics: Collection[str]) -> None:
        """Let go of topics that the assignment does not name any more.

        Raises:
            RetryableError: The disk is in the way.
        """
        kept = {one: held for one, held in self._seen.topics.items() if one not in topics}
        self._write(replace(self._seen, topics=kept))

    def _write(self, seen: _Seen) -> None:
        if seen == self._seen and self._known:
            return
        self._pages.write(msgspec.json.encode(seen))
        self._seen = seen
