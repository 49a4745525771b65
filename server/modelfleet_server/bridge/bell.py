"""How a commit tells the bridge of the same process that there is something to send.

Services know a session, not the bridge, so bells are found by the database's address. A
process without a bridge rings a bell that nobody hears; the bridge of another process finds
the row when it looks at the table by itself.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Engine
from sqlmodel import Session

MAX_REPLIES = 10_000
"""Replies that wait for a connection; beyond, the oldest go: devices ask again."""


class Reply(NamedTuple):
    """A message that is not retained."""

    topic: str
    payload: bytes


class Bell:
    """One per database and process."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._replies: deque[Reply] = deque(maxlen=MAX_REPLIES)

    def ring(self) -> None:
        """Wake the publisher."""
        self._rung.set()

    def wait(self, timeout_s: float) -> None:
        """Return when it was rung since the last `quiet`, at the latest after the time."""
        self._rung.wait(timeout_s)

    def quiet(self) -> None:
        """Forget that it was rung; look for work after this call, not before."""
        self._rung.clear()

    def hand_over(self, reply: Reply) -> None:
        """Give the publisher a reply to send, and ring."""
        self._replies.append(reply)
        self.ring()

    def take_replies(self, limit: int) -> list[Reply]:
        """Return up to `limit` replies, oldest first."""
        taken: list[Reply] = []
        while self._replies and len(taken) < limit:
            taken.append(self._replies.popleft())
        return taken

    def give_back(self, replies: Sequence[Reply]) -> None:
        """Put replies back in front that could not be sent."""
        self._replies.extendleft(reversed(replies))


_bells: dict[str, Bell] = {}
_lock = threading.Lock()


def bell_of(engine: Engine) -> Bell:
    """Return the bell of this database."""
    with _lock:
        return _bells.setdefault(engine.url.render_as_string(hide_password=False), Bell())


def bell_in(session: Session) -> Bell:
    """Return the bell of the database that `session` works on."""
    bind = session.get_bind()
    return bell_of(bind if isinstance(bind, Engine) else bind.engine)
