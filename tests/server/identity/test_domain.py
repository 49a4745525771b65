"""Roles in order, names, passwords, and how fast somebody may guess."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.identity import domain
from modelfleet_server.identity.domain import (
    FREE_GUESSES,
    FREE_SHARED_GUESSES,
    LONGEST_WAIT_MS,
    Guess,
    Throttle,
)
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.errors import InvalidError, TooManyError

ADA = Guess("ada", "10.0.0.1")


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


def fail(throttle: Throttle, times: int, now: int, guess: Guess = ADA) -> None:
    for _ in range(times):
        throttle.enter(guess, now)


def wait_after(throttle: Throttle, now: int, guess: Guess = ADA) -> int:
    with pytest.raises(TooManyError) as caught:
        throttle.enter(guess, now)
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
        throttle.enter(ADA, now)
    assert waits[:4] == [1000, 2000, 4000, 8000]
    assert waits[-1] == LONGEST_WAIT_MS
    assert all(before <= after for before, after in pairwise(waits))


def test_asking_while_one_has_to_wait_does_not_make_it_longer() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    assert [wait_after(throttle, now) for now in (0, 400, 999)] == [1000, 600, 1]
    throttle.enter(ADA, 1000)


def test_the_right_password_forgives() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    throttle.enter(ADA, now=1000)
    throttle.forgive(ADA)
    fail(throttle, FREE_GUESSES, now=1000)


def test_any_number_of_right_passwords_waits_for_nothing() -> None:
    throttle = Throttle()
    for _ in range(3 * FREE_SHARED_GUESSES):
        throttle.enter(ADA, now=0)
        throttle.forgive(ADA)


def test_somebody_elsewhere_cannot_lock_out_a_name_with_a_few_guesses() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0, guess=Guess("ada", "10.66.66.66"))
    throttle.enter(ADA, now=0)


@pytest.mark.parametrize("one_name", [True, False])
def test_many_guesses_wait_from_many_addresses_and_at_many_names(one_name: bool) -> None:
    throttle = Throttle()
    guesses = [
        Guess("ada", f"10.0.0.{i}") if one_name else Guess(f"user-{i}", "10.0.0.1")
        for i in range(FREE_SHARED_GUESSES + 1)
    ]
    for guess in guesses[:-1]:
        throttle.enter(guess, now=0)
    assert wait_after(throttle, now=0, guess=guesses[-1]) == 1000


def test_a_guess_that_waits_is_not_counted_for_the_others() -> None:
    throttle = Throttle()
    fail(throttle, FREE_GUESSES, now=0)
    for _ in range(2 * FREE_SHARED_GUESSES):
        wait_after(throttle, now=0)
    throttle.enter(Guess("bob", ADA.address), now=0)


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
