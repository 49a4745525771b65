"""What people signed and what ends soon: proposed anew, and shown until it is signed."""

import logging
from typing import NamedTuple

from sqlmodel import Session

from modelfleet_server.kit.access import system
from modelfleet_server.trust import store
from modelfleet_server.trust.lessons import rank
from modelfleet_server.trust.proposing import propose_renewal
from modelfleet_server.trust.tables import Proposal

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
ALARM_MS = 14 * DAY_MS
"""So long before its end a role is proposed anew, and shown as ending."""

ROOT_ALARM_MS = 90 * DAY_MS
"""Custodians are harder to bring together. A new root is made by `key propose`."""

ONLINE = frozenset({"snapshot", "timestamp"})
MOST = 64
"""Roles in one proposal; the next follow when these are signed."""


class Ending(NamedTuple):
    """A role in force and when it ends; `ends_soon` asks for a person."""

    role: str
    version: int
    expires_ms: int
    ends_soon: bool


def read_endings(session: Session, now_ms: int) -> list[Ending]:
    """Return all roles in force, delegating roles first."""
    rows = sorted(store.newest_of_all(session), key=lambda row: rank(row.role))
    return [
        Ending(
            row.role,
            row.version,
            row.expires_ms,
            row.expires_ms - now_ms < _alarm_of(row.role),
        )
        for row in rows
    ]


def propose_due(session: Session, now_ms: int) -> Proposal | None:
    """Propose anew what ends soon and is in no open proposal; None where nothing is due.

    Meant to be called often. Any other proposal of the same roles takes the place of this
    one, so that it never keeps a recall waiting.
    """
    due = [
        one.role
        for one in read_endings(session, now_ms)
        if one.ends_soon
        and one.role not in {"root", *ONLINE}
        and not store.open_proposals(session, [one.role])
    ][:MOST]
    if not due:
        return None
    log.warning("these roles end soon and have to be signed anew: %s", ", ".join(due))
    return propose_renewal(session, due, actor=str(system("trust")), now_ms=now_ms)


def _alarm_of(role: str) -> int:
    if role in ONLINE:  # the server signs them anew every day, for 14
        return DAY_MS
    return ROOT_ALARM_MS if role == "root" else ALARM_MS
