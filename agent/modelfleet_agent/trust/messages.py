"""What the supervisor asks the metadata child, and what it answers: one JSON line each."""

import msgspec

UNTOLD = "E_CLOCK"
"""Code: the metadata is new, but nobody told what time it is."""


class Wish(msgspec.Struct, frozen=True):
    """A release that is asked for: its path in the metadata, and the id it must have."""

    path: str
    id: str


class Refresh(msgspec.Struct, frozen=True, kw_only=True, tag="refresh", tag_field="task"):
    """Fetch and verify the metadata, and the statements in `want`.

    Attributes:
        directory: Of the agent.
        fleet: SHA-256 of the first root.
        server: Base URL.
        token: Bearer token.
        proxy: HTTP proxy to the server, "" where there is none.
        nonce: For the time token.
        want: Releases to look up.
        ran: Ms that the device ran and that no refresh was told of yet.
    """

    directory: str
    fleet: str
    server: str
    token: str
    proxy: str = ""
    nonce: str
    want: list[Wish]
    ran: int = 0


class Recall(msgspec.Struct, frozen=True, kw_only=True, tag="recall", tag_field="task"):
    """Verify the role files of a `trust/recalls` message and add what they name."""

    directory: str
    fleet: str
    payload: bytes


Task = Refresh | Recall


class Time(msgspec.Struct, frozen=True):
    """A verified time token.

    Attributes:
        time: Unix ms.
        at: When it was asked for, in ms since the device booted.
    """

    time: int
    at: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended; the state itself is on disk.

    Attributes:
        code: Empty where it is done.
        what: What went wrong, for people.
        time: What time it is; None where nobody told, which `code` and `what` explain.
        moved: Bytes that came from the server or went there, without headers.
    """

    code: str = ""
    what: str = ""
    time: Time | None = None
    moved: int = 0
