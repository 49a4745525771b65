"""Names, passwords' limits, and how fast somebody may guess; pure."""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from modelfleet_server.kit.errors import InvalidError, TooManyError

USER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MIN_PASSWORD = 10
MAX_PASSWORD = 1024

HOUR_MS = 3_600_000
LOGIN_LIFE_MS = 30 * 24 * HOUR_MS
SESSION_LIFE_MS = 12 * HOUR_MS
TOKEN_LIFE_MS = 365 * 24 * HOUR_MS
"""The longest life of an API token."""

BEARER_PREFIX = "mfu_"
"""Begins every user's bearer token; `devices` uses another prefix."""

FREE_GUESSES = 5
LONGEST_WAIT_MS = 5 * 60_000
MAX_KEYS = 10_000


class TokenKind(StrEnum):
    """What a token is for; stored, so never rename a value."""

    API = "api"
    LOGIN = "login"
    SESSION = "session"


def check_name(name: str) -> None:
    """Refuse a user name that is not one.

    Raises:
        InvalidError: It does not match `USER_NAME`.
    """
    if not USER_NAME.fullmatch(name):
        raise InvalidError(
            f"the user name {name!r} is not allowed",
            "Use 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit.",
        )


def check_password(password: str) -> None:
    """Refuse a password that is too short or absurdly long.

    Raises:
        InvalidError: Fewer than `MIN_PASSWORD` or more than `MAX_PASSWORD` characters.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidError(
            f"the password has {len(password)} characters",
            f"Choose one of {MIN_PASSWORD} to {MAX_PASSWORD} characters.",
        )


def fingerprint(secret: str) -> str:
    """Return what the database keeps of a token: SHA-256, enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def form_token(session_secret: str) -> str:
    """Return what every form of this session carries; it does not tell the cookie."""
    return hashlib.sha256(b"modelfleet-form:" + session_secret.encode()).hexdigest()


@dataclass
class _Guesses:
    count: int = 0
    last_ms: int = 0

    def wait_ms(self) -> int:
        """Return how long after `last_ms` the next guess may come."""
        over = self.count - FREE_GUESSES
        return 0 if over < 0 else min(1000 * 2 ** min(over, 20), LONGEST_WAIT_MS)


class Throttle:
    """Slows down guessing: after five failures each further guess waits twice as long.

    Counts per key (a user name, an address) in memory, for `MAX_KEYS` keys; a restart
    forgives. Safe to use from all threads.
    """

    def __init__(self) -> None:
        self._guesses: OrderedDict[str, _Guesses] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, keys: Sequence[str], now: int) -> None:
        """Count a guess as failed until `forgive` says otherwise, so that none run abreast.

        Raises:
            TooManyError: One of the keys has to wait; the guess is not counted.
        """
        with self._lock:
            for key in keys:
                known = self._guesses.get(key, _Guesses())
                left = known.last_ms + known.wait_ms() - now
                if left > 0:
                    raise TooManyError(
                        "too many failed logins",
                        f"Try again in {-(-left // 1000)} s.",
                        retry_after_ms=left,
                    )
            for key in keys:
                self._count(key, now)

    def forgive(self, keys: Sequence[str]) -> None:
        """Forget the failures of `keys`: the password was right."""
        with self._lock:
            for key in keys:
                self._guesses.pop(key, None)

    def _count(self, key: str, now: int) -> None:
        guesses = self._guesses.setdefault(key, _Guesses())
        if now - guesses.last_ms > 2 * LONGEST_WAIT_MS:
            guesses.count = 0
        guesses.count += 1
        guesses.last_ms = now
        self._guesses.move_to_end(key)
        while len(self._guesses) > MAX_KEYS:
            self._guesses.popitem(last=False)
