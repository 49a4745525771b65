"""The core of the metadata: bytes in, a state out; no file, no connection, no clock.

Nothing stands in for anything here: a walk says what it wants to read, fetch and keep, and
the tests answer from a dictionary, which is all that a walk can see of a disk and a server.
"""

from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.walks import MODEL, NONCE, Device, history
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
)

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.trust.floors import ONLINE, Floors
from modelfleet_agent.trust.steps import Elapsed, Fetch, Step
from modelfleet_manifests.names import release_path
from modelfleet_manifests.recalls import names_of


def check_nothing_is_forgotten(before: Floors, after: Floors) -> None:
    """Compare floors; only what rests on keys that are gone may have ended."""
    assert after.root >= before.root
    assert set(after.blocked) >= set(before.blocked)
    assert set(after.stopped) >= set(before.stopped)
    rotated = not set(before.online) <= set(after.online)
    for role, floor in before.seen.items():
        found = after.seen.get(role)
        if found is None:
            assert rotated, role
            assert role in ONLINE
        elif set(floor.keys) <= set(found.keys):
            assert found.version >= floor.version, role
    if not rotated:
        assert after.clock >= before.clock
        for role, version in before.claimed.items():
            assert after.claimed[role] >= version, role


def test_a_cold_device_verifies_in_this_order() -> None:
    known, device = history(), Device()
    assert device.refresh(known.states[0]) is None
    assert [type(one) for one in device.steps].count(Elapsed) == 1
    first = known.refs[0]
    assert device.fetched == [
        "/tuf/metadata/2.root.json",
        "/tuf/metadata/timestamp.json",
        "/tuf/metadata/2.snapshot.json",
        "/tuf/metadata/2.targets.json",
        f"/tuf/time/{NONCE}",
        "/tuf/metadata/2.revocations.json",
        "/tuf/metadata/2.stops.json",
        "/tuf/metadata/1.demo.json",
        "/tuf/metadata/1.demo%2Fdigits.json",
        f"/tuf/targets/m/{MODEL}/1.0.0/{first.id}.release.json",
    ]
    assert device.state.listed == {release_path(MODEL, "1.0.0"): first.id}


def test_what_is_kept_is_not_fetched_again() -> None:
    known, device = history(), Device()
    device.refresh(known.states[-1])
    device.refresh(known.states[-1])
    assert device.fetched == [
        "/tuf/metadata/3.root.json",
        "/tuf/metadata/timestamp.json",
        f"/tuf/time/{NONCE}",
    ]


def test_nothing_is_kept_before_it_is_verified() -> None:
    known, device = history(), Device()
    forged = dict.fromkeys(known.states[-1], b'{"signed": {}, "signatures": []}')
    assert device.refresh(forged) is not None
    assert device.disk == {}


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_whatever_is_served_in_any_order_nothing_is_forgotten(
    served: list[tuple[int, bool]],
) -> None:
    known, device = history(), Device()
    stops = names_of("stops", known.fleet.role("stops").targets)[0]
    for which, loses in served:
        before, believed = device.floors, device.state
        failed = device.refresh(known.states[which % len(known.states)])
        check_nothing_is_forgotten(before, device.floors)
        assert failed is None or device.state == believed
        assert set(device.floors.stopped) <= stops
        assert set(device.state.listed.values()) <= {one.id for one in known.refs}
        if loses:
            device.disk.clear()
    assert device.refresh(known.states[-1]) is None
    assert set(device.state.listed.values()) == {one.id for one in known.refs}
    assert device.state.floors == {MODEL: "1.0.0"}


ERRORS: list[Exception] = [
    DownloadHTTPError("nothing there", 404),
    DownloadError("broken"),
    DownloadLengthMismatchError("endless"),
    RetryableError("E_UNREACHABLE", "no connection"),
]


@given(
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(0, 40),
    st.sampled_from([*ERRORS, None]),
)
@settings(max_examples=30, deadline=None)
def test_whatever_step_fails_or_is_the_last_the_next_honest_walk_ends_well(
    begin: int, served: int, at: int, error: Exception | None
) -> None:
    known, device, whole = history(), Device(), Device()
    states = known.states
    for one in (device, whole):
        one.refresh(states[min(begin, served) % len(states)])
    before = device.floors
    if error is None:
        device.refresh(states[served % len(states)], cut=at)
    else:
        left = iter(range(at, -1, -1))

        def fail(step: Step) -> Exception | None:
            return error if isinstance(step, Fetch) and next(left, 1) == 0 else None

        device.refresh(states[served % len(states)], fail=fail)
    check_nothing_is_forgotten(before, device.floors)
    assert device.refresh(states[-1]) is None
    assert whole.refresh(states[-1]) is None
    assert device.state == whole.state
    assert device.floors == whole.floors


@given(st.integers(0, 9), st.integers(0, 1 << 16), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_altered_bytes_are_refused_or_change_nothing(which: int, at: int, bit: int) -> None:
    known, device, honest = history(), Device(), Device()
    honest.refresh(known.states[-1])
    served = dict(known.states[-1])
    fetched = [
        unquote(path.removeprefix("/tuf/metadata/"))
        for path in honest.fetched
        if "/metadata/" in path
    ]
    name = [one for one in fetched if one in served][which % (len(fetched) - 1)]
    data = bytearray(served[name])
    data[at % len(data)] ^= 1 << bit
    served[name] = bytes(data)
    failed = device.refresh(served)
    assert set(device.state.listed.items()) <= set(honest.state.listed.items())
    if failed is None and not device.state.problems:
        assert device.state == honest.state
    assert device.refresh(known.states[-1]) is None
    assert device.state == honest.state


def test_the_same_replies_give_the_same_steps_and_the_same_state() -> None:
    known, one, other = history(), Device(), Device()
    for served in known.states:
        assert repr(one.refresh(served)) == repr(other.refresh(served))
        assert one.steps == other.steps
        assert (one.state, one.floors) == (other.state, other.floors)


def test_a_shell_that_hands_over_too_much_is_not_believed() -> None:
    known, device = history(), Device()
    served = dict(known.states[-1])
    served["timestamp.json"] += b" " * (1 << 14)
    assert isinstance(device.refresh(served), DownloadLengthMismatchError)


@pytest.mark.parametrize("status", [403, 404])
def test_the_newest_root_is_the_last_one_that_the_server_has(status: int) -> None:
    known, device = history(), Device()

    def fail(step: Step) -> Exception | None:
        last = isinstance(step, Fetch) and step.path.endswith("/3.root.json")
        return DownloadHTTPError("no such root", status) if last else None

    assert device.refresh(known.states[-1], fail=fail) is None
    assert device.floors.root == 2
