"""Roles in order, names, passwords, and how fast somebody may guess."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.identity import domain
from modelfleet_server.identity.domain import FREE_GUESSES, LONGEST_WAIT_MS, Throttle
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.errors import InvalidError, TooManyError

KEYS = ["name ada"]


def test_each_role_includes_itself_and_those_before_it_and_no_other() -> None:
    order = [Role.VIEWER, Role.TECHNICIAN, Role.OPERATOR, Role.APPROVER, Role.ADMIN]
    for (i, role), (j, other) in product(enumerate(order), enumerate(order)):
        assert role.includes(other) == (i >= j)


@pytest.mark.parametrize("name", ["", "Ada", "a b", "-ada", "a" * 64, "ada\n", "ä"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="user name"):
        domain.check_name(name)


@pytest.mark.parametrize("length", [0, domain.MIN_PASSWORD - 1, domain.MAX_PASSWORD + 1])
def test_a_password_of_a_wrong_length_is_refused_and_not_repeated(length: int) -> None:
    with pytest.raises(InvalidError) as caught:
        domain.check_password("x" * length)
    assert "xx" not in str(caught.value)


def fail(throttle: Throttle, times: int, now: int) -> None:
    for _ in range(times):
        throttle.enter(KEYS, now)


def wait_after(throttle: Throttle, now: int) -> int:
    with pytest.raises(TooManyError) as caught:
        throttle.enter(KEYS, now)
    return int(str(caught.value.data["retry_after_ms"]))


def test_some_guesses_are_free_and_the_next_one_waits() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    assert wait_after(throttle, now=0) == 1000


def test_each_further_failure_doubles_the_wait_up_to_a_limit() -> None:
    throttle, now, waits = Throttle(), 0, []
    fail(throttle, FREE_GUESSES, now)
    for _ in range(12):
        waits.append(wait_after(throttle, now))
        now += waits[-1]
        throttle.enter(KEYS, now)
    assert waits[:4] == [1000, 2000, 4000, 8000]
    assert waits[-1] == LONGEST_WAIT_MS
    assert all(before <= after for before, after in pairwise(waits))


def test_asking_while_one_has_to_wait_does_not_make_it_longer() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    assert [wait_after(throttle, now) for now in (0, 400, 999)] == [1000, 600, 1]
    throttle.enter(KEYS, 1000)


def test_the_right_password_forgives() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    throttle.forgive(KEYS)
    fail(throttle, FREE_GUESSES, now=0)


def test_one_key_that_waits_is_enough_and_the_other_is_not_charged() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    for _ in range(20):
        with pytest.raises(TooManyError):
            throttle.enter(["address 10.0.0.1", *KEYS], 0)
    throttle.enter(["address 10.0.0.1"], 0)


def test_failures_are_forgotten_after_a_while() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    later = 2 * LONGEST_WAIT_MS + 1
    fail(throttle, FREE_GUESSES, now=later)
    assert wait_after(throttle, now=later) == 1000


@given(st.text(max_size=50), st.text(max_size=50))
def test_form_tokens_of_two_sessions_differ(one: str, other: str) -> None:
    assert (domain.form_token(one) == domain.form_token(other)) == (one == other)
    assert domain.form_token(one) != domain.fingerprint(one)
