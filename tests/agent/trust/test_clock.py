"""What time it is: told with a nonce, and by nobody who has not signed it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.solo import DAY, NOW, SoloFleet
from tests.support.solo_device import EnrolledDevice, floors_of
from tests.support.solo_http import FleetServer

from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.floors import PACE, Floors
from modelfleet_agent.trust.timing import Told, TrustedClock
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import ReleaseRef

BAD = "a" * 64


FAR = 4_070_908_800_000
"""The year 2099."""


@contextmanager
def signing_at(fleet: SoloFleet, time: int) -> Iterator[None]:
    """Let what is published say that it was signed at `time`, Unix ms."""
    now, fleet.now = fleet.now, time
    yield
    fleet.now = now


def is_fresh(device: EnrolledDevice) -> bool:
    door = device.door()
    return door.view(door.now()).fresh


def test_a_clock_of_1970_does_not_make_old_metadata_young(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.wrong = 0
    device.refresh(ref)
    device.fleet.now += 20 * DAY  # the timestamp is not signed anew
    device.reboot()
    assert device.refresh(ref).code == "E_EXPIRED"
    assert not is_fresh(device)


@pytest.mark.parametrize("wrong", [0, FAR])
def test_a_wrong_clock_does_not_keep_a_device_from_updates(
    device: EnrolledDevice, ref: ReleaseRef, wrong: int
) -> None:
    device.wrong = wrong
    assert not is_fresh(device)
    assert device.refresh(ref).code == ""
    assert is_fresh(device)
    assert device.door().now() == device.fleet.now


@pytest.mark.parametrize("wrong", [None, 0, FAR])
def test_nothing_is_installed_before_somebody_told_the_time(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef, wrong: int | None
) -> None:
    device.wrong, server.tells_time = wrong, False
    assert device.refresh(ref).code == "E_CLOCK"
    assert list(device.state.listed.values()) == [
        ref.id
    ]  # the metadata is taken all the same
    assert not is_fresh(device)
    server.tells_time = True
    assert device.refresh(ref).code == ""
    assert is_fresh(device)


def test_each_start_asks_anew(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    device.reboot()
    assert not is_fresh(device)
    assert ref.id in device.door().view(device.fleet.now).releases  # what runs goes on
    device.refresh(ref)
    asked = {one.path for one in server.requests if "/tuf/time/" in one.path}
    assert len(asked) == 2
    assert is_fresh(device)


def test_a_full_replay_after_sixty_days_off_installs_nothing(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef
) -> None:
    """Recalls were signed meanwhile; the clock stands where the device was switched off."""
    device.refresh(ref)
    old, device.wrong = dict(device.fleet.files.metadata), device.fleet.now
    device.fleet.now += 60 * DAY
    device.fleet.stop(BAD)
    device.fleet.renew()
    device.reboot()
    server.fleet.files.metadata = old
    assert device.refresh(ref).code == "E_EXPIRED"
    assert not is_fresh(device)
    server.tells_time = False
    assert device.refresh(ref).code == "E_CLOCK"
    assert not is_fresh(device)


def test_a_recorded_token_answers_no_other_question(
    device: EnrolledDevice, ref: ReleaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = device.fleet.time_token("1" * 32)
    monkeypatch.setattr(device.fleet, "time_token", lambda _nonce: recorded)
    answer = device.refresh(ref)
    assert answer.code == "E_CLOCK"
    assert "another question" in answer.what
    assert not is_fresh(device)


@pytest.mark.parametrize("role", ["director", "timestamp", "snapshot", "approver"])
def test_another_role_does_not_tell_the_time(
    device: EnrolledDevice, ref: ReleaseRef, role: str
) -> None:
    device.fleet.keys["time"] = device.fleet.keys[role]
    assert device.refresh(ref).code == "E_CLOCK"
    assert not is_fresh(device)


def test_a_token_of_another_fleet_is_refused(
    device: EnrolledDevice, ref: ReleaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.fleet, "id", "0" * 64)
    answer = device.refresh(ref)
    assert answer.code == "E_CLOCK"
    assert "another fleet" in answer.what


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 4000, b"x" * 9000])
def test_what_is_no_token_is_refused(
    device: EnrolledDevice, ref: ReleaseRef, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.fleet, "time_token", lambda _nonce: body)
    assert device.refresh(ref).code == "E_CLOCK"
    assert not is_fresh(device)


def test_a_token_that_is_held_back_counts_from_when_it_was_asked_for(
    device: EnrolledDevice, ref: ReleaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, honest = device.fleet, device.fleet.time_token

    def hold_back(nonce: str) -> bytes:
        token = honest(nonce)
        fleet.now += 3 * DAY
        return token

    monkeypatch.setattr(fleet, "time_token", hold_back)
    device.refresh(ref)
    assert device.door().now() == fleet.now


def test_a_token_is_gone_by_for_fourteen_days(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    for role in fleet.roles.values():
        role.expires = fleet._in_days(400)
    fleet.publish()
    device.refresh(ref)
    fleet.now += 14 * DAY
    assert is_fresh(device)
    fleet.now += 1
    assert not is_fresh(device)
    assert device.door().now() == fleet.now  # it is still known what time it is


def test_a_stolen_time_key_poisons_until_it_is_replaced(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet, honest = device.fleet, device.fleet.now
    device.refresh(ref)
    forged = fleet.time_token("1" * 32)
    assert forged
    device.clock.confirm(Told(FAR, honest, frozenset(device.state.timekeepers)))
    assert device.refresh(ref).code == ""  # within a start it does not go back
    assert device.door().now() == FAR
    assert not is_fresh(device)
    assert floors_of(device).clock == honest  # nothing of it lasts
    fleet.keys["time"] = PrivateKey.generate()
    fleet.delegate("targets", "time", [fleet.keys["time"]], [])
    fleet.publish()
    assert device.refresh(ref).code == ""
    assert device.door().now() == honest
    assert is_fresh(device)


def test_within_a_start_a_stolen_time_key_cannot_stop_the_clock(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet, begun = device.fleet, device.fleet.now
    device.refresh(ref)
    keys = frozenset(device.state.timekeepers)
    for _ in range(3):
        fleet.now += 13 * DAY
        device.clock.confirm(Told(begun, device.rising(), keys))
    assert device.door().now() == begun + 39 * DAY
    assert not is_fresh(device)  # the revocation files have expired by now


def test_stolen_time_and_timestamp_keys_cannot_stop_the_clock_of_a_device_that_runs(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet, begun = device.fleet, device.fleet.now
    device.refresh(ref)
    fleet.tells = lambda: begun
    for role in ("timestamp", "snapshot"):
        fleet.roles[role].expires = fleet._in_days(400)
    for day in range(1, 37):  # each day a start, told the same, with a timestamp to match
        device.reboot()
        fleet.now = begun + day * DAY
        with signing_at(fleet, begun + day):
            fleet.publish(only=[])
        assert device.refresh(ref).code == ""
        assert floors_of(device).clock == begun + day * DAY * PACE // 100
    assert device.state.listed  # what runs goes on
    assert not is_fresh(device)  # by now the files of revocations and stops have expired


def test_a_device_that_was_off_or_asks_every_minute_counts_only_what_it_ran(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet, begun = device.fleet, device.fleet.now
    device.refresh(ref)
    fleet.now += 60 * DAY
    device.reboot()
    device.refresh(ref)
    assert floors_of(device).clock == begun
    serial = floors_of(device).serial
    for _ in range(9):
        fleet.now += 60_000
        device.refresh(ref)
    assert floors_of(device).serial == serial  # each record is written to flash
    fleet.now += 60_000
    device.refresh(ref)
    assert floors_of(device).clock == begun + 600_000 * PACE // 100


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ran"), st.integers(0, 40 * DAY)),
            st.tuples(st.just("signed"), st.integers(0, 4 * DAY)),
        )
    )
)
def test_honest_timestamps_and_running_time_never_pass_the_true_time(
    story: list[tuple[str, int]],
) -> None:
    true, floors = NOW, rules.dated(Floors(fleet="f"), NOW, ["k"], NOW + 9999 * DAY)
    for what, ms in story:
        before = floors.clock
        true += ms
        if what == "signed":
            floors = rules.dated(floors, true, ["k"], NOW + 9999 * DAY)
            assert floors.clock == true
        else:
            fast = ms * 102 // 100  # an oscillator that is two per cent fast
            keys = {role: ["k"] for role in ("timestamp", "snapshot")}
            floors = rules.age(floors, fast)
            floors = rules.under_root(floors, 1, keys, NOW + 9999 * DAY)
        assert before <= floors.clock <= true


def test_targets_without_a_timekeeper_are_refused(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    assert device.fleet.targets.delegations
    assert device.fleet.targets.delegations.roles
    del device.fleet.targets.delegations.roles["time"]
    device.fleet.publish()
    assert device.refresh(ref).code == "E_DELEGATION"


times = st.integers(0, 10**13)


@given(st.lists(st.tuples(times, st.integers(0, 10**9)), min_size=1, max_size=8))
def test_while_the_keys_stay_it_only_goes_forward(steps: list[tuple[int, int]]) -> None:
    rising = 0
    clock = TrustedClock(lambda: 0, lambda: rising)
    last = 0
    for time, elapsed in steps:
        rising += elapsed
        assert clock.now() >= last
        last = clock.now()
        clock.confirm(Told(time, rising, frozenset("k")))
        assert clock.now() >= max(last, time)
        last = clock.now()
    assert clock.now(floor=10**14) == 10**14


def test_a_clock_poisoned_by_the_timestamp_key_ends_with_a_new_root(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    fleet, honest = device.fleet, device.fleet.now
    fleet.roles["timestamp"].expires = fleet._in_days(40_000)
    fleet.now = 4_070_908_800_000
    fleet.publish(only=[])
    fleet.now = honest
    device.refresh(ref)
    assert floors_of(device).issued == 4_070_908_800_000
    assert floors_of(device).clock < honest + 731 * DAY
    assert not device.door().view(honest).fresh
    fleet.rotate_online()
    fleet.renew()
    assert device.refresh(ref).code == ""
    assert floors_of(device).clock == honest
    assert device.door().view(honest).fresh


def test_expired_metadata_never_takes_a_release_away(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    view = device.door().view(device.fleet.now + 4000 * DAY)
    assert not view.fresh
    assert ref.id in view.releases
