"""What is recalled: single releases, single files, and ranges of a model's versions.

A tombstone is a target without content in one of two roles: `revocations` blocks installs,
`stops` also ends what runs. All that it says is in its path,
`tombstone/<block|stop>/<release|digest|range>/<name>`, so that it can be remembered as a
word: the id of a release, the digest of a file, or a range.

A range is half-open and reads `<namespace>:<name>@<from>,<below>`, where either version may
be missing. Versions compare by SemVer's precedence: `1.2.0-rc.1` is below `1.2.0`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.errors import BadNameError, ManifestError
from modelfleet_manifests.names import split_model
from modelfleet_manifests.release import Release, Variant
from modelfleet_manifests.semver import Version

ACTIONS = {"revocations": "block", "stops": "stop"}
"""What the tombstones of a role do, as their paths say it."""

MAX_NAME = 200
_PARTS = 4
_HINT = "write, for example, demo/digits@>=1.0.0,<1.2.0"


@dataclass(frozen=True, slots=True)
class VersionRange:
    """The versions of a model from `start` on and below `end`; None is no bound.

    Raises:
        BadNameError: It has no bound, holds no version, or is written too long.
    """

    model: str
    start: Version | None
    end: Version | None

    def __post_init__(self) -> None:
        split_model(self.model)
        what = f"range {str(self)!r}"
        if self.start is None and self.end is None:
            raise BadNameError(what, f"has no bound; {_HINT}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise BadNameError(what, "holds no version")
        if len(self.name) > MAX_NAME:
            raise BadNameError(what, f"is longer than {MAX_NAME} characters")

    def __str__(self) -> str:
        bounds = [f">={self.start}"] if self.start else []
        bounds += [f"<{self.end}"] if self.end else []
        return f"{self.model}@{','.join(bounds)}"

    @property
    def name(self) -> str:
        """How it is signed: the last part of a tombstone's path."""
        model = self.model.replace("/", ":")
        return f"{model}@{self.start or ''},{self.end or ''}"

    def covers(self, model: str, version: str) -> bool:
        """Say whether a version of a model is in it."""
        if model != self.model:
            return False
        one = Version(version)
        below = self.end is None or one < self.end
        return below and (self.start is None or self.start <= one)


def read_range(name: str) -> VersionRange:
    """Return the range that a tombstone names.

    Raises:
        BadNameError: It is none, or written in another way than `VersionRange.name`.
    """
    model, _, bounds = name.partition("@")
    start, comma, end = bounds.partition(",")
    found = VersionRange(
        model.replace(":", "/"),
        Version(start) if start else None,
        Version(end) if end else None,
    )
    if not comma or found.name != name:
        raise BadNameError(f"range {name!r}", "is not written as a tombstone has it")
    return found


def parse_range(text: str) -> VersionRange:
    """Return the range that a person wrote, such as `demo/digits@>=1.0.0,<1.2.0`.

    `>` and `<=` are taken as well, and `=` for a single version.

    Raises:
        BadNameError: It is no range, or has a bound twice.
    """
    model, at, bounds = text.partition("@")
    found: dict[str, Version] = {}
    for part in bounds.split(",") if at else []:
        for which, version in _read_bound(part.strip(), text):
            if which in found:
                raise BadNameError(f"range {text!r}", f"has two bounds of a kind; {_HINT}")
            found[which] = version
    return VersionRange(model, found.get("start"), found.get("end"))


def is_range(text: str) -> bool:
    """Say whether a person who wrote `text` meant a range, and no single release."""
    return not {">", "<", "=", ","}.isdisjoint(text.partition("@")[2])


def _read_bound(part: str, text: str) -> list[tuple[str, Version]]:
    sign = part[: len(part) - len(part.lstrip("<>="))]
    if sign not in {">=", ">", "<", "<=", "="}:
        raise BadNameError(f"range {text!r}", f"has a bound {part!r}; {_HINT}")
    version = Version(part.removeprefix(sign))
    if sign == "=":
        return [("start", version), ("end", _following(version))]
    bound = version if sign in {">=", "<"} else _following(version)
    return [("start" if sign.startswith(">") else "end", bound)]


def _following(version: Version) -> Version:
    """Return the lowest version above `version`."""
    core, _, pre = version.text.partition("-")
    if pre:
        return Version(f"{version}.0")
    major, minor, patch = core.split(".")
    return Version(f"{major}.{minor}.{int(patch) + 1}-0")


class Tombstone(NamedTuple):
    """What a path says: whose it is, and what is recalled.

    Attributes:
        role: `revocations` or `stops`.
        kind: `release`, `digest` or `range`.
        name: 64 hexadecimal digits, or `VersionRange.name`.
    """

    role: str
    kind: str
    name: str

    @property
    def path(self) -> str:
        """Of the target."""
        return f"tombstone/{ACTIONS[self.role]}/{self.kind}/{self.name}"


def read_tombstone(path: str) -> Tombstone:
    """Return what the path of a target recalls.

    Raises:
        BadNameError: It is no tombstone, or of a kind that is not known here.
    """
    parts = path.split("/")
    role = next(
        (one for one, action in ACTIONS.items() if parts[:2] == ["tombstone", action]), None
    )
    if role is None or len(parts) != _PARTS:
        raise BadNameError(f"target {path!r}", "is no tombstone")
    found = Tombstone(role, parts[2], parts[3])
    if not is_recall(found.kind, found.name):
        raise BadNameError(f"tombstone {path!r}", "is of a kind that is not known here")
    return found


def is_recall(kind: str, name: str) -> bool:
    """Say whether a tombstone of this kind may have this name."""
    if kind != "range":
        return kind in {"release", "digest"} and is_digest(name)
    try:
        read_range(name)
    except ManifestError:
        return False
    return True


class Subject(NamedTuple):
    """What may be recalled: a version of a model, with its id and its files' digests."""

    model: str
    version: str
    names: frozenset[str]


def subject_of(
    release_id: str, release: Release, variant: Variant | None = None
) -> Subject:
    """Return what recalls of a release look at; its files only with a variant."""
    files = {file.digest for file in variant.files} if variant else set()
    return Subject(release.model, release.version, frozenset({release_id, *files}))


@dataclass(frozen=True, slots=True)
class Recalls:
    """What was revoked (`blocked`: no install) and stopped (nor may it go on running).

    Each set holds the names of tombstones; entries are never dropped.
    """

    blocked: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()

    def blocks(self, one: Subject) -> bool:
        """Say whether installing is forbidden."""
        return self.stops(one) or _hit(self.blocked, one)

    def stops(self, one: Subject) -> bool:
        """Say whether running is forbidden."""
        return _hit(self.stopped, one)


def _hit(entries: frozenset[str], one: Subject) -> bool:
    if not entries.isdisjoint(one.names):
        return True
    return any(found.covers(one.model, one.version) for found in ranges_of(entries))


@lru_cache(maxsize=8)
def ranges_of(entries: frozenset[str]) -> tuple[VersionRange, ...]:
    """Return the ranges among names of tombstones."""
    return tuple(read_range(one) for one in sorted(entries) if not is_digest(one))


def names_of(role: str, paths: Iterable[str]) -> tuple[set[str], list[str]]:
    """Return what the target paths of a role recall, and which are not understood.

    A path that belongs to the other role counts for nothing.
    """
    named: set[str] = set()
    strange: list[str] = []
    for path in paths:
        if not path.startswith(f"tombstone/{ACTIONS[role]}/"):
            continue
        try:
            named.add(read_tombstone(path).name)
        except ManifestError:
            strange.append(path)
    return named, strange
