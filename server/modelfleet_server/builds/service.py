"""What can be done with builds; their jobs call most of it. Never commits."""

from collections.abc import Iterable, Mapping

import msgspec
from sqlmodel import Session, col, select

from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.release import File
from modelfleet_manifests.semver import Version
from modelfleet_server.audit.service import record
from modelfleet_server.builds.domain import OPEN, Event, State, after
from modelfleet_server.builds.errors import (
    BuildNotFoundError,
)
from modelfleet_server.builds.messages import Built
from modelfleet_server.builds.profiles import find_profile, shipped_profiles
from modelfleet_server.builds.tables import Build
from modelfleet_server.catalog import service as catalog
from modelfleet_server.catalog.domain import State as VersionState
from modelfleet_server.jobs.service import Wish, submit
from modelfleet_server.kit.access import system
from modelfleet_server.kit.errors import AppError
from modelfleet_server.kit.ids import new_id

WORKER = str(system("builds"))
KIND = "build"
"""Of the jobs that make variants."""


class Order(msgspec.Struct, frozen=True):
    """What such a job is told: which build."""

    build: str


def queue(
    session: Session,
    version_id: str,
    profiles: Iterable[str],
    *,
    actor: str,
    at_ms: int,
    known: Mapping[str, Profile] | None = None,
) -> list[Build]:
    """Ask for variants of a version; a build that is there already stays as it is.

    Args:
        session: Of the transaction that makes the version, so that none is without builds.
        version_id: Of a version in the catalog.
        profiles: Names of profiles, at least one.
        actor: Who asks.
        at_ms: Now.
        known: All profiles that there are; None for the shipped ones.

    Raises:
        UnknownProfileError: There is no recipe for one of them; nothing is queued.
    """
    wanted = list(dict.fromkeys(profiles))
    for profile in wanted:
        find_profile(profile, known or shipped_profiles())
    there = {build.profile: build for build in list_builds(session, version_id)}
    new = [profile for profile in wanted if profile not in there]
    for profile in new:
        there[profile] = Build(
            id=new_id(),
            version_id=version_id,
            profile=profile,
            state=State.QUEUED,
            queued_ms=at_ms,
        )
        session.add(there[profile])
    session.flush()
    for profile in new:
        _ask_for(session, there[profile], actor=actor, at_ms=at_ms)
    if new:
        detail = {"profiles": new}
        record(session, actor, "builds.queued", version_id, detail, at_ms=at_ms)
    return [there[profile] for profile in wanted]


def get_build(session: Session, build_id: str) -> Build:
    """Return a build.

    Raises:
        BuildNotFoundError: There is none of this id.
    """
    build = session.get(Build, build_id)
    if build is None:
        raise BuildNotFoundError(f"there is no build {build_id}", build=build_id)
    return build


def list_builds(session: Session, version_id: str) -> list[Build]:
    """Return the builds of a version, by profile."""
    statement = select(Build).where(Build.version_id == version_id)
    return list(session.exec(statement.order_by(col(Build.profile))).all())


def all_done(session: Session, version_id: str) -> bool:
    """Say whether the version has builds and every one of them made its variant."""
    builds = list_builds(session, version_id)
    return bool(builds) and all(build.state is State.DONE for build in builds)


def find_bases(session: Session, build: Build) -> list[File]:
    """Return the files that most devices of this profile should have now, the graph first.

    Those of the highest released version below this one. What they really have is asked
    when deltas are made; here it weighs candidates against each other.
    """
    version = catalog.get_version(session, build.version_id)
    lower = [
        name
        for name in catalog.released_versions(session, version.model)
        if Version(name) < Version(version.version)
    ]
    for name in reversed(lower[-1:]):
        _, release = catalog.find_release(session, version.model, name)
        for variant in release.variants:
            if variant.profile == build.profile:
                return variant.files
    return []


def read_built(build: Build) -> Built | None:
    """Return what a build made, None if it is not done."""
    if not build.built_json:
        return None
    return msgspec.json.decode(build.built_json, type=Built)


def finish(
    session: Session, build_id: str, built: Built, *, at_ms: int, awaits: bool = False
) -> Build:
    """Note what a build made; the last one of a version ends its building.

    Args:
        session: Writing.
        build_id: Of a build that is queued.
        built: What it made.
        at_ms: Now.
        awaits: Reference devices have to prove it first: `prove` ends it.

    Raises:
        MoveError: It has ended.
        AppError: The catalog does not take the version as built.
    """
    build = get_build(session, build_id)
    build.state = after(build.state, Event.MAKE if awaits else Event.FINISH)
    build.built_json = msgspec.json.encode(built).decode()
    build.finished_ms = at_ms
    session.add(build)
    detail = {"profile": build.profile, "precision": built.precision, "why": built.why}
    record(session, WORKER, "build.done", build.version_id, detail, at_ms=at_ms)
    _end_version(session, build.version_id, at_ms)
    return build


def prove(session: Session, build_id: str, *, at_ms: int) -> Build:
    """Note that enough reference devices proved what a build made.

    Raises:
        MoveError: It does not wait for that.
        AppError: The catalog does not take the version as built.
    """
    build = get_build(session, build_id)
    build.state = after(build.state, Event.FINISH)
    build.finished_ms = at_ms
    session.add(build)
    detail = {"profile": build.profile}
    record(session, WORKER, "build.proven", build.version_id, detail, at_ms=at_ms)
    _end_version(session, build.version_id, at_ms)
    return build


def fail(session: Session, build_id: str, error: AppError, *, at_ms: int) -> Build:
    """Note why a build made nothing; the last one of a version ends its building.

    Raises:
        MoveError: It has ended.
    """
    build = get_build(session, build_id)
    build.state = after(build.state, Event.FAIL)
    build.code, build.reason, build.hint = error.code, error.what, error.hint
    build.finished_ms = at_ms
    session.add(build)
    detail = {"profile": build.profile, "code": error.code, "reason": error.what}
    record(session, WORKER, "build.failed", build.version_id, detail, at_ms=at_ms)
    _end_version(session, build.version_id, at_ms)
    return build


def retry(session: Session, build_id: str, *, actor: str, at_ms: int) -> Build:
    """Queue a failed build again; its version is then being built again.

    Raises:
        BuildNotFoundError: There is none of this id.
        MoveError: It has not failed.
    """
    build = get_build(session, build_id)
    build.state = after(build.state, Event.RETRY)
    build.code = build.reason = build.hint = ""
    build.queued_ms, build.finished_ms = at_ms, None
    session.add(build)
    _ask_for(session, build, actor=actor, at_ms=at_ms)
    detail = {"profile": build.profile}
    record(session, actor, "build.retried", build.version_id, detail, at_ms=at_ms)
    version = catalog.get_version(session, build.version_id)
    if version.state is VersionState.FAILED:
        catalog.retry_building(session, version.id, actor=actor, now_ms=at_ms)
    return build


def _ask_for(session: Session, build: Build, *, actor: str, at_ms: int) -> None:
    """Ask for the job that makes it; models take turns."""
    version = catalog.get_version(session, build.version_id)
    title = f"{version.version} {build.profile}"
    wish = Wish(KIND, build.id, version.model, Order(build.id), title)
    submit(session, wish, actor=actor, at_ms=at_ms, again=True)


def _end_version(session: Session, version_id: str, at_ms: int) -> None:
    """Tell the catalog what became of a version once none of its builds is open.

    Not before: a version that failed takes no variants any more.
    """
    session.flush()
    builds = list_builds(session, version_id)
    if any(build.state in OPEN for build in builds):
        return
    failed = [build for build in builds if build.state is State.FAILED]
    if failed:
        why = "; ".join(f"{build.profile}: {build.reason}" for build in failed)
        catalog.fail_building(session, version_id, why, now_ms=at_ms)
    else:
        catalog.finish_building(session, version_id, now_ms=at_ms)
