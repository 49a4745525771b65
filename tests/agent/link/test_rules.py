"""Mirrors, proxy, budget, windows, interfaces and rate against real servers."""

import base64
import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.proxy import proxying
from tests.support.solo import SoloFleet
from tests.support.solo_http import Fault, FleetServer, serve

from modelfleet_agent.errors import AgentError, HeldError, RefusedError, RetryableError
from modelfleet_agent.link.fetch import Fetcher, Link
from modelfleet_agent.link.mirrors import Mirrors
from modelfleet_agent.link.permit import BUDGET, LINK, TURN, WINDOW, Permit
from modelfleet_agent.settings.link import LinkSettings
from modelfleet_agent.store import Store
from modelfleet_manifests.digests import sha256

MIB = 1 << 20
DATA = os.urandom(3 * MIB)
DIGEST, LENGTH = sha256(DATA), len(DATA)
PATH = f"/blobs/sha256/{DIGEST}"
NOON = 1_795_435_200_000  # 2026-11-23 12:00 UTC
HOUR = 3_600_000


@dataclass
class Device:
    """A store, a link and a clock that a test sets."""

    store: Store
    server: FleetServer
    settings: LinkSettings = field(default_factory=LinkSettings)
    now: int = NOON
    interface: str = "eth0"
    share: float = 0.5
    notices: list[AgentError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        """Read again what is on disk, as a start of the agent does."""
        permit = Permit(
            self.settings,
            self.store.root,
            clock=lambda: self.now,
            rng=lambda: self.share,
            interface=lambda _host, _port: self.interface,
        )
        self.link = Link(permit, Mirrors(self.settings.mirrors), self.notices.append)

    def fetch(self, timeout_s: float = 15) -> int:
        """Fetch the file and return the bytes that came."""
        fetcher = Fetcher(
            self.server.url, "secret", self.store, link=self.link, timeout_s=timeout_s
        )
        with contextlib.closing(fetcher):
            fetched = fetcher.fetch_file(DIGEST, LENGTH)
        assert fetched.path.read_bytes() == DATA
        return fetched.received

    def held(self) -> HeldError:
        with pytest.raises(HeldError) as caught:
            self.fetch()
        return caught.value


@pytest.fixture
def fleet() -> SoloFleet:
    fleet = SoloFleet()
    fleet.files.add_blob(DATA)
    return fleet


@pytest.fixture
def mirror(fleet: SoloFleet) -> Iterator[FleetServer]:
    with serve(fleet) as mirror:
        yield mirror


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "agent")


def device(store: Store, server: FleetServer, **settings: object) -> Device:
    return Device(store, server, LinkSettings(**settings))  # type: ignore[arg-type]


def asked(server: FleetServer) -> list[str | None]:
    return [one.range for one in server.requests if one.path == PATH]


# mirrors


def test_a_mirror_gives_the_file_and_never_sees_the_token(
    store: Store, server: FleetServer, mirror: FleetServer
) -> None:
    assert device(store, server, mirrors=(mirror.url,)).fetch() == LENGTH
    assert asked(server) == []
    assert [one.token for one in mirror.requests] == [None]


def test_a_mirror_that_breaks_off_is_gone_on_from_elsewhere(
    store: Store, server: FleetServer, mirror: FleetServer
) -> None:
    mirror.break_next(PATH, Fault(cut=MIB), Fault(status=503))
    assert device(store, server, mirrors=(mirror.url,)).fetch() == LENGTH  # nothing twice
    assert asked(mirror) == [None, f"bytes={MIB}-"]
    assert asked(server) == [f"bytes={MIB}-"]
    assert server.requests[-1].if_range is None  # the mirror's ETag says nothing here


@pytest.mark.parametrize(
    "gone", ["http://127.0.0.1:1", "http://127.0.0.1:1/prefix"], ids=["port", "prefix"]
)
def test_a_mirror_that_is_gone_is_passed_over(
    store: Store, server: FleetServer, mirror: FleetServer, gone: str
) -> None:
    assert device(store, server, mirrors=(gone, mirror.url)).fetch() == LENGTH
    assert asked(mirror) == [None]
    assert asked(server) == []


@pytest.mark.parametrize(
    "lie",
    [bytes([DATA[0] ^ 1]) + DATA[1:], DATA + b"more"],
    ids=["other bytes", "too long"],
)
def test_a_mirror_that_lies_is_left_and_told_of(
    store: Store, server: FleetServer, mirror: FleetServer, lie: bytes
) -> None:
    mirror.break_next(PATH, Fault(body=lie), Fault(body=lie))
    one = device(store, server, mirrors=(mirror.url,))
    one.fetch()
    assert [error.code for error in one.notices] == ["E_MIRROR"]
    assert mirror.url in one.notices[0].what
    seen = len(mirror.requests)
    store.discard(DIGEST)
    one.fetch()
    assert len(mirror.requests) == seen  # it is left
    assert not list(store.partials.iterdir())


def test_who_lied_is_found_out_where_bytes_of_two_are_mixed(
    store: Store, server: FleetServer, mirror: FleetServer
) -> None:
    with serve(mirror.fleet) as honest:
        mirror.break_next(PATH, Fault(body=bytes(LENGTH), cut=MIB), Fault(status=500))
        one = device(store, server, mirrors=(mirror.url, honest.url))
        one.fetch()
        # the honest mirror gave the rest, and then all of it
        assert asked(honest) == [f"bytes={MIB}-", None]
        assert one.notices == []
        assert asked(server) == []


def test_a_server_that_lies_is_refused_as_before(
    store: Store, server: FleetServer, mirror: FleetServer
) -> None:
    server.break_next(PATH, Fault(body=bytes(LENGTH)))
    mirror.break_next(PATH, Fault(status=404))
    with pytest.raises(RefusedError):
        device(store, server, mirrors=(mirror.url,)).fetch()


# rate


@pytest.mark.parametrize(
    "faults",
    [[Fault(cut=MIB, stall=True), *[Fault(cut=0, stall=True)] * 2], [Fault(drip=0.02)]],
    ids=["stalls", "drips"],
)
def test_a_mirror_that_stalls_or_drips_is_given_up(
    store: Store, server: FleetServer, mirror: FleetServer, faults: list[Fault]
) -> None:
    mirror.break_next(PATH, *faults)
    one = device(store, server, mirrors=(mirror.url,), min_rate=10_000, rate_window_s=0.2)
    assert one.fetch(timeout_s=0.5) == LENGTH  # what came is not asked for again
    assert len(asked(server)) == 1


# budget


def test_a_budget_spreads_a_download_over_days_and_loses_nothing(
    store: Store, server: FleetServer
) -> None:
    one = device(store, server, budget_mb_per_day=1, zone="Europe/Berlin")
    held = one.held()
    assert held.code == BUDGET
    assert held.until == NOON + 11 * HOUR  # midnight in Berlin
    assert "1 MiB a day is used up until 2026-11-24 00:00" in held.what
    assert asked(server) == [f"bytes=0-{MIB - 1}"]
    one.boot()
    assert one.held().code == BUDGET  # a restart buys nothing
    assert len(server.requests) == 1
    for day in (1, 2):
        one.now = NOON + day * 24 * HOUR
        if day == 1:
            assert one.held().code == BUDGET
    assert one.fetch() == MIB
    ends = [f"bytes={n * MIB}-{(n + 1) * MIB - 1}" for n in range(2)]
    assert asked(server) == [*ends, f"bytes={2 * MIB}-"]


def test_a_power_cut_buys_no_bytes(store: Store, server: FleetServer) -> None:
    one = device(store, server, budget_mb_per_day=2)
    one.link.permit.spend(MIB + 1)  # and the power goes, before `settle`
    one.boot()
    left = one.link.permit.left.bytes
    assert left is not None
    assert left < MIB


def test_a_month_has_a_budget_of_its_own(store: Store, server: FleetServer) -> None:
    one = device(store, server, budget_mb_per_month=2)
    held = one.held()
    assert "2 MiB a month is used up until 2026-12-01 00:00" in held.what
    one.now = NOON + 8 * 24 * HOUR
    assert one.fetch() == MIB


def test_a_clock_that_jumps_buys_no_bytes(store: Store, server: FleetServer) -> None:
    one = device(store, server, budget_mb_per_day=1)
    one.held()
    for now in (0, NOON, 0):  # no clock of its own: 1970 after each boot
        one.now = now
        one.boot()
        if now == 0:
            one.link.permit.spend(2 * MIB)
        assert one.link.permit.left.bytes == 0


def test_only_metered_bytes_count_where_that_is_wanted(
    store: Store, server: FleetServer
) -> None:
    one = device(
        store, server, budget_mb_per_day=1, budget_counts="metered", metered=("wwan*",)
    )
    one.interface = "wwan0"
    assert one.held().code == BUDGET
    one.interface = ""  # not known: it may cost
    assert one.held().code == BUDGET
    one.interface = "wlan0"
    assert one.fetch() == LENGTH - MIB


def test_what_is_no_file_is_counted_and_never_held_back(
    store: Store, server: FleetServer
) -> None:
    one = device(store, server, budget_mb_per_day=1)
    permit = one.link.permit
    permit.count("broker", 1883, 1000)
    assert permit.left.bytes == MIB - 1000
    permit.count("broker", 1883, 2 * MIB)
    assert permit.left.bytes == 0
    assert one.held().code == BUDGET
    assert asked(server) == []
    one.boot()  # without `settle`, as after a power cut
    assert one.link.permit.left.bytes == 0


def test_messages_over_a_free_link_are_not_counted(
    store: Store, server: FleetServer
) -> None:
    one = device(
        store, server, budget_mb_per_day=1, budget_counts="metered", metered=("wwan*",)
    )
    one.interface = "wlan0"
    one.link.permit.count("broker", 1883, 1000)
    assert one.link.permit.left.bytes == MIB
    one.interface = "wwan0"
    one.boot()  # else the way is looked up once a minute
    one.link.permit.count("broker", 1883, 1000)
    assert one.link.permit.left.bytes == MIB - 1000


# windows, turns, interfaces


def test_outside_its_window_nothing_is_asked_for(store: Store, server: FleetServer) -> None:
    one = device(store, server, windows=("02:00-04:00",), zone="Europe/Berlin")
    held = one.held()
    assert held.code == WINDOW
    assert held.until == NOON + 13 * HOUR
    assert "02:00-04:00 (Europe/Berlin), which opens at 2026-11-24 02:00" in held.what
    assert server.requests == []
    one.now = held.until
    assert one.fetch() == LENGTH


def test_a_window_that_closes_ends_a_download_and_keeps_what_came(
    store: Store, server: FleetServer
) -> None:
    one = device(store, server, windows=("11:00-13:00",))
    server.break_next(PATH, Fault(cut=MIB, stall=True))
    ends = threading.Timer(0.3, lambda: setattr(one, "now", NOON + HOUR))
    ends.start()
    with pytest.raises(HeldError):
        one.fetch(timeout_s=1)
    ends.join()
    one.now = NOON + 24 * HOUR
    assert one.fetch() == LENGTH - MIB


def test_downloads_of_a_fleet_begin_one_after_the_other(
    store: Store, server: FleetServer
) -> None:
    one = device(store, server, jitter_s=600)
    permit = one.link.permit
    for _ in range(2):  # the turn is drawn once
        with pytest.raises(HeldError) as caught:
            permit.check("a release")
        assert (caught.value.code, caught.value.until) == (TURN, NOON + 300_000)
        one.now += 1000
    one.now = NOON + 300_000
    permit.check("a release")
    windows = device(store, server, jitter_s=600, windows=("02:00-04:00",))
    windows.now = NOON + 14 * HOUR  # the window opened
    with pytest.raises(HeldError) as caught:
        windows.link.permit.check("a release")
    assert caught.value.until == NOON + 14 * HOUR + 300_000


def test_files_come_over_allowed_interfaces_only(store: Store, server: FleetServer) -> None:
    one = device(store, server, interfaces=("eth*", "wlan0"))
    one.interface = "wwan0"
    held = one.held()
    assert (held.code, held.until) == (LINK, None)
    assert "is wwan0; files may come over eth*, wlan0 only" in held.what
    one.interface = ""
    assert "there is no way to 127.0.0.1" in one.held().what
    assert server.requests == []
    one.interface = "wlan0"
    assert one.fetch() == LENGTH


def test_a_mirror_on_an_allowed_interface_serves_where_the_server_may_not(
    store: Store, server: FleetServer, mirror: FleetServer
) -> None:
    real = device(store, server, interfaces=("lo",), mirrors=(mirror.url,))
    permit = Permit(real.settings, store.root)  # asks this machine
    real.link = Link(permit, real.link.mirrors, real.notices.append)
    assert real.fetch() == LENGTH


# proxy


def test_a_proxy_relays_and_gets_its_own_password(
    store: Store, server: FleetServer
) -> None:
    with proxying() as proxy:
        address = f"http://me:pass%20word@127.0.0.1:{proxy.port}"
        assert device(store, server, proxy=address).fetch() == LENGTH
        assert proxy.heads[0].startswith(f"GET {server.url}{PATH} HTTP/1.1")
        pair = base64.b64encode(b"me:pass word").decode()
        assert f"Proxy-Authorization: Basic {pair}" in proxy.heads[0]
        seen = len(proxy.heads)
        store.discard(DIGEST)
        direct = device(store, server, proxy=address, no_proxy=("127.*",))
        assert direct.fetch() == LENGTH
        assert len(proxy.heads) == seen


def test_https_goes_through_a_tunnel(store: Store, server: FleetServer) -> None:
    with proxying() as proxy:
        one = device(store, server, proxy=f"http://me:word@127.0.0.1:{proxy.port}")
        port = server.url.rpartition(":")[2]
        fetcher = Fetcher(f"https://127.0.0.1:{port}", "secret", store, link=one.link)
        with contextlib.closing(fetcher), pytest.raises(RetryableError) as caught:
            fetcher.fetch_file(DIGEST, LENGTH)  # that server speaks no TLS
        assert caught.value.code == "E_UNREACHABLE"
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1")
        assert "Proxy-Authorization: Basic" in proxy.heads[0]
        assert "secret" not in proxy.heads[0]


def test_a_proxy_that_is_gone_is_asked_later(store: Store, server: FleetServer) -> None:
    one = device(store, server, proxy="http://127.0.0.1:1")
    with pytest.raises(RetryableError) as caught:
        one.fetch()
    assert caught.value.code == "E_UNREACHABLE"
