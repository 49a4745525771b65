"""Versions of models, and what was tried for each class of hardware, as plain data."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from sqlmodel import Session, col, select

from modelfleet_server.builds import service as builds
from modelfleet_server.builds.choosing import Candidate, interval
from modelfleet_server.builds.tables import Build
from modelfleet_server.catalog.tables import ModelVersion
from modelfleet_server.catalog.versions import require_version
from modelfleet_server.console import words
from modelfleet_server.kit.paging import Ask, fetch_page

ROWS = 25


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One line of the list; `href` leads to its page."""

    name: str
    word: str
    shape: str
    tone: str
    why: str
    at_ms: int
    href: str


@dataclass(frozen=True, slots=True)
class VersionsView:
    """All versions, newest first; `next_href` is empty at the end."""

    rows: list[VersionRow]
    next_href: str


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """What was tried; figures are text, empty where they were never measured."""

    name: str
    ships: bool
    best: bool
    accuracy: str
    differs: str
    latency: str
    size: str
    memory: str
    wire: str
    verdict: str


@dataclass(frozen=True, slots=True)
class BuildView:
    """What was tried for one class of hardware, and what could not be shown here."""

    profile: str
    word: str
    shape: str
    tone: str
    why: str
    unproven: str
    candidates: list[CandidateRow]


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version with its builds."""

    row: VersionRow
    model: str
    release: str
    builds: list[BuildView]


class WhichVersion:
    """A version as a page's address names it."""

    def __init__(self, namespace: str, name: str, version: str) -> None:
        self.model, self.version = f"{namespace}/{name}", version


def versions_view(session: Session, after: str) -> VersionsView:
    """Return the versions of all models, newest first.

    Args:
        session: Any.
        after: Where the list goes on; empty for its beginning.

    Raises:
        InvalidError: `after` is not of this list.
    """
    keys = [ModelVersion.created_ms, ModelVersion.id]
    ask = Ask(ROWS, after or None)
    rows, cursor = fetch_page(session, select(ModelVersion), keys, ask, newest_first=True)
    following = f"/models?{urlencode({'after': cursor})}" if cursor else ""
    return VersionsView([_version(row) for row in rows], following)


def version_view(session: Session, model: str, version: str) -> VersionView:
    """Return one version and the front of each of its builds.

    Raises:
        NotFoundError: There is no such version.
    """
    row = require_version(session, model, version)
    statement = select(Build).where(Build.version_id == row.id)
    found = session.exec(statement.order_by(col(Build.profile))).all()
    return VersionView(_version(row), model, row.release, [_build(one) for one in found])


def _version(row: ModelVersion) -> VersionRow:
    look = words.VERSION[row.state]
    return VersionRow(
        name=f"{row.model} {row.version}",
        word=look.word,
        shape=look.shape,
        tone=look.tone,
        why=row.reason,
        at_ms=row.created_ms,
        href=f"/models/{quote(row.model)}/{quote(row.version, safe='')}",
    )


def _build(build: Build) -> BuildView:
    look, built = words.BUILD[build.state], builds.read_built(build)
    return BuildView(
        profile=build.profile,
        word=look.word,
        shape=look.shape,
        tone=look.tone,
        why=built.why if built else build.reason,
        unproven="; ".join(built.unproven) if built else "",
        candidates=[_candidate(one) for one in built.front] if built else [],
    )


def _candidate(one: Candidate) -> CandidateRow:
    return CandidateRow(
        name=one.name,
        ships=one.chosen,
        best=one.best,
        accuracy=_figure(one.accuracy, "{:.4f}"),
        differs=_differs(one),
        latency=_figure(one.latency_ms, "{:.3f} ms"),
        size=_bytes(one.size),
        memory=_figure(one.memory_mb, "{:.1f} MiB"),
        wire=_bytes(one.wire),
        verdict=one.verdict,
    )


def _differs(one: Candidate) -> str:
    if one.disagreements is None:
        return ""
    high = interval(one.disagreements, one.samples)[1]
    return f"{one.disagreements} of {one.samples} (at most {high:.1%})"


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _bytes(value: int | None) -> str:
    return "" if value is None else words.size(value)
