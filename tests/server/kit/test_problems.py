"""Errors become problem documents, with the right status and all their data."""

import json
from http import HTTPStatus

import pytest

from modelfleet_server.kit import errors, problems


class SelectorEmptyError(errors.InvalidError):
    code = "selector-empty"


def body_of(error: errors.AppError) -> dict[str, object]:
    found: dict[str, object] = json.loads(bytes(problems.answer(error).body))
    return found


def test_a_problem_has_the_standard_members_the_hint_and_the_data() -> None:
    error = SelectorEmptyError("the selector x=1 matches nothing", "See.", selector="x=1")
    assert body_of(error) == {
        "type": "urn:modelfleet:problem:selector-empty",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "the selector x=1 matches nothing",
        "code": "selector-empty",
        "hint": "See.",
        "selector": "x=1",
    }


def test_data_cannot_replace_what_every_problem_says() -> None:
    assert body_of(errors.ConflictError("clash", status="fine"))["status"] == 409


@pytest.mark.parametrize("kind", errors.AppError.__subclasses__())
def test_every_kind_of_error_has_its_status(kind: type[errors.AppError]) -> None:
    assert problems.status_of(kind("wrong")) is not HTTPStatus.INTERNAL_SERVER_ERROR


def test_whoever_must_wait_is_told_how_long_in_whole_seconds() -> None:
    answer = problems.answer(errors.TooManyError("slow down", retry_after_ms=1001))
    assert answer.headers["retry-after"] == "2"


def test_whoever_is_not_logged_in_is_told_how() -> None:
    answer = problems.answer(errors.UnauthorizedError("who are you"))
    assert answer.headers["www-authenticate"] == "Bearer"
