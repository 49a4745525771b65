"""Names, passwords' limits, and how fast somebody may guess; pure."""

import hashlib
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

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
FREE_SHARED_GUESSES = 50
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


class Guess(NamedTuple):
    """An attempt to log in: as whom, from which address."""

    name: str
    address: str

    @property
    def limits(self) -> dict[str, int]:
        """How many failures are free, by what they are counted for.

        Few for a name from one address. More for the name alone and the address alone, so
        that nobody can lock out somebody else, or everybody behind a proxy, with a handful.
        """
        return {
            self.own: FREE_GUESSES,
            f"name {self.name}": FREE_SHARED_GUESSES,
            f"address {self.address}": FREE_SHARED_GUESSES,
        }

    @property
    def own(self) -> str:
        """The key that a success clears: others' failures do not count for it."""
        return f"{self.name} from {self.address}"


@dataclass
class _Failures:
    count: int = 0
    last_ms: int = 0

    def wait_ms(self, free: int) -> int:
        """Return how long after `last_ms` the next guess may come."""
        over = self.count - free
        return 0 if over < 0 else min(1000 * 2 ** min(over, 20), LONGEST_WAIT_MS)


class Throttle:
    """Slows down guessing: after the free failures each further one doubles the wait.

    Counts in memory, for the last `MAX_KEYS` names and addresses; a restart forgives. Safe
    to use from all threads.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, guess: Guess, now: int) -> None:
        """Count a guess as failed until `forgive` says otherwise, so that none run abreast.

        Raises:
            TooManyError: It has to wait; the guess is not counted.
        """
        with self._lock:
            for key, free in guess.limits.items():
                known = self._failures.get(key, _Failures())
                left = known.last_ms + known.wait_ms(free) - now
                if left > 0:
                    raise TooManyError(
                        "too many failed logins",
                        f"Try again in {-(-left // 1000)} s.",
                        retry_after_ms=left,
                    )
            for key in guess.limits:
                self._count(key, now)

    def forgive(self, guess: Guess) -> None:
        """The password was right: take this guess back, and its own failures."""
        with self._lock:
            for key in guess.limits:
                if key in self._failures:
                    self._failures[key].count -= 1
            self._failures.pop(guess.own, None)

    def _count(self, key: str, now: int) -> None:
        failures = self._failures.setdefault(key, _Failures())
        if now - failures.last_ms > 2 * LONGEST_WAIT_MS:
            failures.count = 0
        failures.count += 1
        failures.last_ms = now
        self._failures.move_to_end(key)
        while len(self._failures) > MAX_KEYS:
            self._failures.popitem(last=False)
