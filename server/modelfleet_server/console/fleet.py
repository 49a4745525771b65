"""The fleet's page as plain data."""

from dataclasses import dataclass
from urllib.parse import urlencode

from sqlmodel import Session, col, select

from modelfleet_server.compliance import service as compliance
from modelfleet_server.compliance.domain import Compliance
from modelfleet_server.compliance.service import Verdict
from modelfleet_server.console import words
from modelfleet_server.console.rollouts import RolloutView, rollouts_now
from modelfleet_server.devices.tables import Group
from modelfleet_server.trust import expiry, proposals, store
from modelfleet_server.trust.domain import State as ProposalState
from modelfleet_server.trust.tables import Proposal

ROWS = 50
MAX_GROUPS = 50
MAX_PROPOSALS = 10
WIDTH = 1000
"""Of the bar, in its own units."""

SLIVER = 6
"""The least width of a state that has any device: one of 100,000 is still seen."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: the URL is the view.

    Attributes:
        after: Device id; the list begins behind it.
    """

    group: str = ""
    state: Compliance | None = None
    after: str = ""

    def href(self, **changes: str) -> str:
        """Return the address of the page with some of it changed; always page one."""
        now = {"state": self.state or "", "group": self.group}
        query = urlencode({key: one for key, one in (now | changes).items() if one})
        return f"/?{query}" if query else "/"


@dataclass(frozen=True, slots=True)
class CountView:
    """A state with how many are in it, and its part of the bar."""

    key: str
    word: str
    shape: str
    tone: str
    count: str
    x: int
    width: int
    href: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class NeedView:
    """Something that waits for a person; `action` is what to press or to type."""

    key: str
    shape: str
    tone: str
    text: str
    href: str
    action: str
    command: str


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One line of the list."""

    key: str
    word: str
    shape: str
    tone: str
    reason: str
    runs: str
    wants: str
    reported_ms: int
    href: str


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter: on or off, and the address with it the other way round."""

    text: str
    href: str
    on: bool


@dataclass(frozen=True, slots=True)
class FleetView:
    """All of the page that may change while somebody looks."""

    at_ms: int
    total: str
    summary: str
    counts: dict[str, CountView]
    needs: list[NeedView]
    rollouts: list[RolloutView]
    devices: list[DeviceRow]
    next_href: str


def fleet_view(session: Session, ask: Ask, *, now_ms: int) -> FleetView:
    """Return the page.

    Raises:
        NotFoundError: There is no such group.
    """
    seen = compliance.overview(session, ask.group or None, now_ms=now_ms)
    listed = compliance.verdicts(
        session,
        now_ms=now_ms,
        group=ask.group or None,
        state=ask.state,
        after=ask.after,
        limit=ROWS + 1,
    )
    rollouts = rollouts_now(session, ask.group)
    shown = listed[:ROWS]
    compliant = seen.counts[Compliance.COMPLIANT]
    return FleetView(
        at_ms=now_ms,
        total=words.count(seen.total),
        summary=f"{compliant:,} of {words.count(seen.total)} compliant",
        counts={one.key: one for one in _counts(seen.counts, seen.total, ask)},
        needs=[
            *_needs(session, seen.counts, rollouts, ask),
            *_endings(session, now_ms),
        ],
        rollouts=rollouts,
        devices=[_row(one) for one in shown],
        next_href=_next(ask, shown[-1].device) if len(listed) > ROWS else "",
    )


def chips(session: Session, ask: Ask) -> list[Chip]:
    """Return a filter for each group, the chosen one among them."""
    names = session.exec(select(Group.name).order_by(col(Group.name)).limit(MAX_GROUPS))
    found = list(dict.fromkeys([*([ask.group] if ask.group else []), *names]))
    return [
        Chip(name, ask.href(group="" if name == ask.group else name), name == ask.group)
        for name in found
    ]


def _counts(counts: dict[Compliance, int], total: int, ask: Ask) -> list[CountView]:
    shown = []
    x = 0
    for state, width in _widths(counts, total).items():
        look = words.COMPLIANCE[state]
        chosen = ask.state is state
        href = ask.href(state="" if chosen else state.value)
        shown.append(
            CountView(
                state.value, look.word, look.shape,
                look.tone if counts[state] else "none", f"{counts[state]:,}",
                x, width, href, chosen,
            )
        )  # fmt: skip
        x += width
    return shown


def _widths(counts: dict[Compliance, int], total: int) -> dict[Compliance, int]:
    """Return widths that sum up to `WIDTH`; what is rare keeps a sliver."""
    if total == 0:
        return dict.fromkeys(words.COMPLIANCE, 0)
    widths = {
        state: max(WIDTH * counts[state] // total, SLIVER) if counts[state] else 0
        for state in words.COMPLIANCE
    }
    widest = max(widths, key=lambda state: widths[state])
    widths[widest] += WIDTH - sum(widths.values())
    return widths


def _needs(
    session: Session,
    counts: dict[Compliance, int],
    rollouts: list[RolloutView],
    ask: Ask,
) -> list[NeedView]:
    needs = []
    for state, what in (
        (Compliance.REVOKED, "with a revoked model"),
        (Compliance.FAILED, "could not install what is wanted"),
    ):
        if counts[state]:
            look = words.COMPLIANCE[state]
            text = f"{words.count(counts[state])} {what}"
            href = ask.href(state=state.value)
            needs.append(
                NeedView(state.value, look.shape, look.tone, text, href, "Open list", "")
            )
    needs += [
        NeedView(
            one.key, one.shape, one.tone,
            f"{one.title}, {one.where}, is {one.word}: {one.reason}",
            f"#rollout-{one.key}", "Decide", "",
        )
        for one in rollouts
        if one.word in {"paused", "halted"}
    ]  # fmt: skip
    return [*needs, *_open_proposals(session)]


def _endings(session: Session, now_ms: int) -> list[NeedView]:
    """What ends soon and is not proposed anew by the server itself."""
    return [
        NeedView(
            f"ends-{one.role}", "pen", "act",
            f"the {one.role} role ends on {words.iso(one.expires_ms)[:10]}",
            "", "", "modelfleet proposal expiry",
        )
        for one in expiry.read_endings(session, now_ms)
        if one.ends_soon and one.role in {"root", "snapshot", "timestamp"}
    ]  # fmt: skip


def _open_proposals(session: Session) -> list[NeedView]:
    rows = session.exec(
        select(Proposal)
        .where(Proposal.state == ProposalState.OPEN)
        .order_by(col(Proposal.created_ms))
        .limit(MAX_PROPOSALS)
    ).all()
    return [_proposal(session, row) for row in rows]


def _proposal(session: Session, row: Proposal) -> NeedView:
    missing = max((one.missing for one in proposals.progress(session, row.id)), default=0)
    text = f"{row.title} waits for {words.count(missing, 'signature', 'signatures')}"
    signed = dict.fromkeys(one.actor for one in store.signatures_of(session, row.id))
    if signed:
        text += f", signed by {', '.join(one.partition(':')[2] for one in signed)}"
    return NeedView(row.id, "pen", "act", text, "", "", f"modelfleet approve {row.id[:8]}")


def _row(verdict: Verdict) -> DeviceRow:
    look = words.COMPLIANCE[verdict.state]
    return DeviceRow(
        key=verdict.device,
        word=look.word,
        shape=look.shape,
        tone=look.tone,
        reason=verdict.reason,
        runs=verdict.runs,
        wants=verdict.wants,
        reported_ms=verdict.reported_ms,
        href=f"/c/{verdict.device}",
    )


def _next(ask: Ask, device: str) -> str:
    base = ask.href()
    return f"{base}{'&' if '?' in base else '?'}{urlencode({'after': device})}#devices"
