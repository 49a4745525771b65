"""What a person is asked before something is signed, at a real terminal."""

import os
import pty
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest
from tests.support.fleet import make_release

from modelfleet_manifests.release import Release
from modelfleet_server.cli.approval import ask
from modelfleet_server.cli.exits import DeclinedError
from modelfleet_server.cli.run import Run
from modelfleet_server.cli.screen import Screen
from modelfleet_server.kit.errors import InvalidError

USUAL = "Adds release demo/digits 1.0.0, id 5."
LOUD = [
    "LOWERS the floor of demo/digits from 1.0.0 to none.",
    "CHANGES who signs demo to 1 of the keys 5….",
    "NOT REPRODUCED: x86-int8; the release says that it is waived.",
]


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Whoever types at the terminal."""
    leader, follower = pty.openpty()
    with os.fdopen(leader, "w") as typing, os.fdopen(follower) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield typing


def types(person: TextIO, *lines: str) -> None:
    person.write("".join(f"{line}\n" for line in lines))
    person.flush()


@pytest.fixture
def release() -> Release:
    return make_release()


def test_a_release_is_signed_by_typing_its_name(person: TextIO, release: Release) -> None:
    types(person, "demo/digits 1.0.0")
    ask(Run(), [USUAL], [release], yes=False)
    types(person, "y")
    with pytest.raises(DeclinedError, match="nothing was done"):
        ask(Run(), [USUAL], [release], yes=False)


@pytest.mark.parametrize("loud", LOUD)
def test_what_is_unusual_needs_a_yes_of_its_own(
    person: TextIO, release: Release, loud: str
) -> None:
    types(person, "y", "demo/digits 1.0.0")
    ask(Run(), [USUAL, loud], [release], yes=False)
    types(person, "", "demo/digits 1.0.0")
    with pytest.raises(DeclinedError):
        ask(Run(), [USUAL, loud], [release], yes=False)


def test_where_nobody_is_nothing_is_signed(release: Release) -> None:
    with pytest.raises(InvalidError, match="has to be confirmed"):
        ask(Run(), [USUAL], [release], yes=False)
    with pytest.raises(InvalidError):
        Screen(as_json=True).confirm_word("demo/digits 1.0.0", yes=False)
    ask(Run(), [USUAL, *LOUD], [release], yes=True)
