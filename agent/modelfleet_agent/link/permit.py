"""Whether files may be downloaded now, by the operator's rules for this device's network.

A permit is asked before a download begins (`check`), before each connection (`open`) and
while bytes come (`Allowance`). What it holds back is no failure: `HeldError` says what is
waited for and, where a clock decides, until when.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from modelfleet_agent.clock import Clock, monotonic_s, now_ms
from modelfleet_agent.errors import HeldError, RetryableError
from modelfleet_agent.link.ledger import SMALL_LEASE, Ledger, Left
from modelfleet_agent.link.routes import interface_to, matches
from modelfleet_agent.settings.link import LinkSettings
from modelfleet_agent.settings.windows import Window, find_opening

WINDOW = "E_WAITS_FOR_WINDOW"
BUDGET = "E_WAITS_FOR_BUDGET"
LINK = "E_WAITS_FOR_LINK"
TURN = "E_WAITS_FOR_TURN"
LOOK_EVERY_S = 0.5
ROUTE_EVERY_S = 60.0
MIB = 1 << 20
_REMEMBERED = 64  # downloads whose turn is kept
_ANYWHERE = ("*",)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Turn:
    since: int
    share: float


class Permit:
    """The rules of one device. Safe in threads."""

    def __init__(
        self,
        settings: LinkSettings,
        directory: Path,
        *,
        clock: Clock = now_ms,
        rng: Callable[[], float] = lambda: 0.0,
        interface: Callable[[str, int | None], str] = interface_to,
    ) -> None:
        """Read what was spent of the budget, where there is one.

        Args:
            settings: The rules.
            directory: Of the agent.
            clock: Unix ms.
            rng: Numbers in [0, 1) for jitter.
            interface: Names the interface that leads to a host.
        """
        self.settings = settings
        self._zone = zone_of(settings.zone)
        self._windows = settings.parsed_windows
        self._clock = clock
        self._rng = rng
        self._interface = interface
        self._turns: dict[str, _Turn] = {}
        self._routes: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._ledger = self._open_ledger(directory)

    def check(self, what: str = "") -> None:
        """Return where a download may begin or go on, as far as clock and budget say.

        Args:
            what: Names the download, to give it its turn; empty: it has begun already.

        Raises:
            HeldError: `E_WAITS_FOR_WINDOW`, `E_WAITS_FOR_BUDGET`, `E_WAITS_FOR_TURN`.
        """
        now = self._clock()
        hold_outside(self._windows, self.settings.zone, now, "its download window")
        if self.settings.budget_counts == "all":
            self.check_budget()
        if what and self.settings.jitter_s:
            self._check_turn(what, now)

    def open(self, host: str, port: int | None) -> "Allowance":
        """Return what may come from `host` now.

        Raises:
            HeldError: `E_WAITS_FOR_LINK`: the interface that leads there may not be used;
                or as `check`.
        """
        self.check()
        counts = self._ledger is not None
        asks = self.settings.interfaces != _ANYWHERE
        if asks or (counts and self.settings.budget_counts == "metered"):
            name = self._interface(host, port)
            if asks and not matches(name, self.settings.interfaces):
                way = (
                    f"the way to {host} is {name}" if name else f"there is no way to {host}"
                )
                allowed = ", ".join(self.settings.interfaces)
                raise HeldError(LINK, f"{way}; files may come over {allowed} only")
            if self.settings.budget_counts == "metered":
                # what cannot be found out counts
                counts = counts and (not name or matches(name, self.settings.metered))
        allowance = Allowance(self, counts=counts)
        if counts:
            self.check_budget()
        return allowance

    def check_budget(self) -> None:
        """Return where bytes are left. Raises `HeldError`, `E_WAITS_FOR_BUDGET`."""
        left = self.left
        if left.bytes is not None and left.bytes <= 0:
            when = tell_time(left.until, self._zone)
            what = f"the byte budget of {left.limit} is used up until {when}"
            raise HeldError(BUDGET, what, until=left.until)

    @property
    def left(self) -> Left:
        """What the budget still allows."""
        return self._ledger.left() if self._ledger else Left(None)

    def spend(self, count: int) -> None:
        """Count bytes that came."""
        if self._ledger:
            self._ledger.spend(count)

    def count(self, host: str, port: int | None, count: int) -> None:
        """Count bytes that came or went and are never held back: all but files.

        Where the disk does not take it, it is not remembered over a restart.
        """
        if self._ledger is None or not self._is_counted(host, port):
            return
        try:
            self._ledger.spend(count, lease=SMALL_LEASE)
        except RetryableError as error:
            log.warning("MF_DISK the byte budget: %s", error)

    def _is_counted(self, host: str, port: int | None) -> bool:
        if self.settings.budget_counts == "all":
            return True
        at, name = self._routes.get(host, (float("-inf"), ""))
        if monotonic_s() - at > ROUTE_EVERY_S:
            name = self._interface(host, port)
            self._routes[host] = (monotonic_s(), name)
        return not name or matches(name, self.settings.metered)

    def settle(self) -> None:
        """A transfer is over."""
        if self._ledger:
            self._ledger.settle()

    def _check_turn(self, what: str, now: int) -> None:
        with self._lock:
            turn = self._turns.pop(what, None) or _Turn(now, self._rng())
            while len(self._turns) >= _REMEMBERED:
                del self._turns[next(iter(self._turns))]
            self._turns[what] = turn
        since = turn.since
        if self._windows:
            since = max(since, find_opening(self._windows, self._zone, now).at)
        begins = since + int(turn.share * self.settings.jitter_s * 1000)
        # a clock that was set back must not make it wait for longer
        if since <= now < begins:
            when = tell_time(begins, self._zone)
            raise HeldError(TURN, f"its download begins at {when}", until=begins)

    def _open_ledger(self, directory: Path) -> Ledger | None:
        per_day = self.settings.budget_mb_per_day
        per_month = self.settings.budget_mb_per_month
        if per_day is None and per_month is None:
            return None
        return Ledger(
            directory,
            per_day=None if per_day is None else per_day * MIB,
            per_month=None if per_month is None else per_month * MIB,
            zone=self._zone,
            clock=self._clock,
        )


@dataclass
class Allowance:
    """What may come over one connection. Used by one thread.

    Attributes:
        counts: Its bytes are on the budget.
    """

    permit: Permit
    counts: bool
    _looked: float = field(default_factory=monotonic_s)

    @property
    def most(self) -> int | None:
        """Bytes that may come; None: no limit."""
        return self.permit.left.bytes if self.counts else None

    def count(self, count: int) -> None:
        """Count bytes that came; they were the last."""
        if self.counts:
            self.permit.spend(count)

    def take(self, count: int) -> None:
        """Count bytes that came, and see whether more may.

        Raises:
            HeldError: The budget is used up, or the window closed.
        """
        self.count(count)
        if self.counts:
            self.permit.check_budget()
        if monotonic_s() - self._looked >= LOOK_EVERY_S:
            self._looked = monotonic_s()
            self.permit.check()


def hold_outside(windows: list[Window], zone: str, now: int, what: str) -> None:
    """Return where one of the windows is open, or where there are none.

    Raises:
        HeldError: `E_WAITS_FOR_WINDOW`.
    """
    if not windows:
        return
    place = zone_of(zone)
    opening = find_opening(windows, place, now)
    if not opening.open:
        texts = ", ".join(window.text for window in windows)
        when = tell_time(opening.at, place)
        said = f"it waits for {what} {texts} ({zone}), which opens at {when}"
        raise HeldError(WINDOW, said, until=opening.at)


def zone_of(name: str) -> tzinfo:
    """Return a time zone of this machine; the settings were checked for it."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - most devices name no zone

    return ZoneInfo(name)


def tell_time(at: int, zone: tzinfo) -> str:
    """Return a moment as a clock on the wall there shows it."""
    local = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M}"
