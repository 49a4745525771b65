"""Label selectors: which devices belong to a group.

The grammar is that of Kubernetes' set-based label selectors, a comma between terms means
"and": `site=plant-b, line!=3, role in (cam, scale), !spare, gpu`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelfleet_manifests.errors import BadNameError

LABEL_KEY = r"^[a-z0-9][a-z0-9._-]{0,62}$"
LABEL_VALUE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_KEY = re.compile(LABEL_KEY)
_VALUE = re.compile(LABEL_VALUE)
_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^()]*)\)$")
_SPLIT = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the value of `key` is (`wanted`) or is not among `values`.

    With `values` None it asks whether the label is there at all.
    """

    key: str
    values: frozenset[str] | None
    wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether a device with these labels fulfils the condition."""
        if self.values is None:
            return (self.key in labels) == self.wanted
        return (labels.get(self.key) in self.values) == self.wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector; `text` is as the operator wrote it."""

    text: str
    terms: tuple[Term, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether all terms hold."""
        return all(term.matches(labels) for term in self.terms)


def parse_selector(text: str) -> Selector:
    """Read a selector.

    Raises:
        BadNameError: It is empty or breaks the grammar; the message names the term.
    """
    terms = tuple(_parse_term(part.strip(), text) for part in _SPLIT.split(text))
    return Selector(text, terms)


def check_label(key: str, value: str) -> None:
    """Return if `key=value` may be a label.

    Raises:
        BadNameError: One of them has a character or a length that labels do not have.
    """
    if not _KEY.fullmatch(key):
        raise BadNameError(f"label {key!r}", "keys match [a-z0-9][a-z0-9._-]{0,62}")
    if not _VALUE.fullmatch(value):
        raise BadNameError(
            f"label {key}={value!r}", "values match [A-Za-z0-9][A-Za-z0-9._-]{0,62}"
        )


def _parse_term(term: str, text: str) -> Term:
    wanted, values, key = True, None, term
    if found := _SET.fullmatch(term):
        key, wanted = found[1], found[2] == "in"
        values = frozenset(value.strip() for value in found[3].split(","))
    elif "=" in term:
        wanted = "!=" not in term
        key, _, value = term.partition("=" if wanted else "!=")
        values = frozenset({value.removeprefix("=").strip()})
    elif term.startswith("!"):
        wanted, key = False, term[1:]
    key = key.strip()
    fine = _KEY.fullmatch(key) and all(map(_VALUE.fullmatch, values or ()))
    if not fine:
        raise BadNameError(
            f"selector {text!r}",
            f"the term {term!r} is not key=value, key!=value, key in (a, b), key or !key",
        )
    return Term(key, values, wanted)
