"""What the supervisor asks the metadata child, and what it answers: one JSON line each."""

import msgspec


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
        now: Trusted time, Unix ms.
        want: Releases to look up.
    """

    directory: str
    fleet: str
    server: str
    token: str
    proxy: str = ""
    now: int
    want: list[Wish]


class Recall(msgspec.Struct, frozen=True, kw_only=True, tag="recall", tag_field="task"):
    """Verify the role files of a `trust/recalls` message and add what they name."""

    directory: str
    fleet: str
    payload: bytes


Task = Refresh | Recall


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended; the state itself is on disk.

    Attributes:
        code: Empty where it is done.
        what: What went wrong, for people.
    """

    code: str = ""
    what: str = ""
