"""Semantic versions (SemVer 2.0.0) of models, without build metadata.

Build metadata has no precedence, so two versions could differ and yet be equal; a fleet
must always know which of two is higher.
"""

import re
from functools import total_ordering

from modelfleet_manifests.errors import BadNameError

_PART = r"(?:0|[1-9][0-9]*)"
_PRE = r"(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
PATTERN = rf"^{_PART}\.{_PART}\.{_PART}(?:-{_PRE}(?:\.{_PRE})*)?$"
MAX_LENGTH = 64
_VERSION = re.compile(PATTERN)


@total_ordering
class Version:
    """A version that can be compared by SemVer's precedence."""

    def __init__(self, text: str) -> None:
        """Read `text`.

        Raises:
            BadNameError: It is not `MAJOR.MINOR.PATCH[-PRERELEASE]`, or too long.
        """
        if len(text) > MAX_LENGTH or not _VERSION.fullmatch(text):
            raise BadNameError(
                f"version {text!r}",
                "is not semantic; write MAJOR.MINOR.PATCH, for example 1.4.0 or 1.4.0-rc.1",
            )
        self.text = text
        core, _, pre = text.partition("-")
        # A version without prerelease is higher than any with one; numbers are lower
        # than words, and a longer list of identifiers is higher.
        self._key = (
            tuple(int(part) for part in core.split(".")),
            not pre,
            tuple(_rank(part) for part in pre.split(".")) if pre else (),
        )

    @property
    def major(self) -> int:
        """The first number; another one announces an incompatible change."""
        return self._key[0][0]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: "Version") -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _rank(part: str) -> tuple[bool, int, str]:
    return (False, int(part), "") if part.isdigit() else (True, 0, part)


def is_lower(one: str, other: str) -> bool:
    """Say whether version `one` has lower precedence than `other`.

    Raises:
        BadNameError: One of them is not a semantic version.
    """
    return Version(one) < Version(other)
