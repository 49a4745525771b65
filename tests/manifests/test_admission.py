import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from modelfleet_manifests.admission import (
    EVERYONE,
    Due,
    admits,
    bucket,
    plan_admission,
    starts,
    threshold,
)
from modelfleet_manifests.deployment import Admit, Paused, Spread
from tests.support.documents import hex_of

ids = st.lists(
    st.integers(0, 2**128 - 1).map(lambda n: hex_of(n, 32)), unique=True, max_size=40
)
salts = st.integers(0, 2**128 - 1).map(lambda n: hex_of(n, 32))
heights = st.one_of(
    st.just("all"), st.integers(0, EVERYONE - 1).map(lambda n: hex_of(n, 16))
)


def admit(
    salt: str,
    to: str,
    enrolments: list[str] | None = None,
    labels: dict[str, str] | None = None,
) -> Admit:
    return Admit(salt=salt, to=to, enrolments=enrolments or [], labels=labels or {})


def test_the_bucket_is_the_one_of_the_specification() -> None:
    # docs/protocol.md, "Admission": SHA-256("mf-admit-1" || 16 zero bytes || 16 zero bytes)
    assert hex_of(bucket("0" * 32, "0" * 32), 16) == "035be65778df8e9c"


@given(salts, ids, st.integers(0, 45))
def test_exactly_k_of_n_are_admitted(salt: str, members: list[str], count: int) -> None:
    planned = plan_admission(salt, members, count)
    rule = admit(salt, planned.to)
    admitted = {one for one in members if admits(rule, one, {})}
    assert admitted == set(planned.members)
    assert len(admitted) == min(count, len(members))


@given(salts, ids, st.integers(0, 45), st.integers(0, 45))
def test_a_higher_threshold_never_admits_fewer(
    salt: str, members: list[str], one: int, other: int
) -> None:
    low, high = sorted((one, other))
    narrow = admit(salt, plan_admission(salt, members, low).to)
    wide = admit(salt, plan_admission(salt, members, high).to)
    assert threshold(narrow.to) <= threshold(wide.to)
    assert all(admits(wide, it, {}) for it in members if admits(narrow, it, {}))


@given(salts, ids.filter(bool), st.integers(0, 45))
def test_listed_devices_are_admitted_beside_the_counted(
    salt: str, members: list[str], count: int
) -> None:
    apart = members[::2]
    planned = plan_admission(salt, members, count, apart=apart)
    rule = admit(salt, planned.to, enrolments=apart)
    admitted = {one for one in members if admits(rule, one, {})}
    assert admitted >= set(apart) | set(planned.members)


@given(salts, heights)
def test_all_admits_the_last_device(salt: str, to: str) -> None:
    del to
    assert admits(admit(salt, "all"), "f" * 32, {})


def test_labels_must_all_match_and_none_admits_nobody() -> None:
    nobody = admit("0" * 32, "0" * 16)
    assert not admits(nobody, "1" * 32, {"line": "3"})
    some = admit("0" * 32, "0" * 16, labels={"line": "3", "role": "cam"})
    assert admits(some, "1" * 32, {"line": "3", "role": "cam", "site": "b"})
    assert not admits(some, "1" * 32, {"line": "3"})


def test_a_step_without_begin_begins_at_once() -> None:
    assert starts(UNSET, admit("0" * 32, "all"), "1" * 32, 0).due is Due.NOW


def test_a_paused_step_is_paused_whatever_the_time() -> None:
    assert starts(Paused(), admit("0" * 32, "all"), "1" * 32, 2**50).due is Due.PAUSED


@given(
    salts, st.integers(0, EVERYONE - 1), st.integers(0, EVERYONE), st.integers(0, 10**12)
)
def test_a_spread_begins_between_its_start_and_end(
    salt: str, first: int, height: int, length: int
) -> None:
    to = "all" if height == EVERYONE else hex_of(height, 16)
    rule = admit(salt, to)
    spread = Spread(from_=hex_of(first, 16), start=1000, end=1000 + length)
    place = bucket(salt, "1" * 32)
    at = starts(spread, rule, "1" * 32, 0).at
    if place < first:
        assert at == 0
    elif place < height:
        assert 1000 <= at <= 1000 + length
    else:
        assert at == 1000


def test_buckets_before_from_begin_at_once() -> None:
    spread = Spread(from_="f" * 16, start=5000, end=9000)
    assert starts(spread, admit("0" * 32, "all"), "0" * 32, 0).due is Due.NOW


@pytest.mark.parametrize("now", [999, 1000])
def test_a_listed_device_begins_at_start(now: int) -> None:
    spread = Spread(from_="0" * 16, start=1000, end=2000)
    rule = admit("0" * 32, "0" * 16, enrolments=["1" * 32])
    due = Due.NOW if now >= 1000 else Due.LATER
    assert starts(spread, rule, "1" * 32, now).due is due
