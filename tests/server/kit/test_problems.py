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


KINDS = [
    kind for kind in errors.AppError.__subclasses__() if kind.__module__ == errors.__name__
]


def test_every_error_of_a_slice_says_what_the_caller_can_do_about_it() -> None:
    # those of the command line, and why a job failed, never cross HTTP
    above = (
        "modelfleet_server.cli",
        "modelfleet_server.demo",
        "modelfleet_server.jobs.errors",
        "tests",
    )
    strays = [
        kind
        for kind in errors.AppError.__subclasses__()
        if kind not in KINDS and not kind.__module__.startswith(above)
    ]
    assert strays == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_has_its_status(kind: type[errors.AppError]) -> None:
    assert problems.status_of(kind("wrong")) is not HTTPStatus.INTERNAL_SERVER_ERROR


def test_whoever_must_wait_is_told_how_long_in_whole_seconds() -> None:
    answer = problems.answer(errors.TooManyError("slow down", retry_after_ms=1001))
    assert answer.headers["retry-after"] == "2"


def test_whoever_is_not_logged_in_is_told_how() -> None:
    answer = problems.answer(errors.UnauthorizedError("who are you"))
    assert answer.headers["www-authenticate"] == "Bearer"
