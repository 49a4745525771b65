"""What can be done with builds; the worker calls most of it. Never commits."""

from collections.abc import Iterable, Mapping

import msgspec
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.semver import Version
from modelfleet_server.audit.service import record
from modelfleet_server.builds.domain import (
    MAX_ATTEMPTS,
    OPEN,
    Built,
    Event,
    Progress,
    State,
    after,
)
from modelfleet_server.builds.errors import (
    BuildNotFoundError,
    LostError,
)
from modelfleet_server.builds.profiles import find_profile, shipped_profiles
from modelfleet_server.builds.tables import Build
from modelfleet_server.catalog import service as catalog
from modelfleet_server.catalog.domain import State as VersionState
from modelfleet_server.kit.access import system
from modelfleet_server.kit.errors import AppError
from modelfleet_server.kit.ids import new_id

WORKER = str(system("builds"))


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


def find_base(session: Session, build: Build) -> str | None:
    """Return the file that most devices of this profile should have now: its SHA-256.

    That of the highest released version below this one. What they really have is asked
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
                return variant.files[0].digest
    return None


def read_built(build: Build) -> Built | None:
    """Return what a build made, None if it is not done."""
    if not build.built_json:
        return None
    return msgspec.json.decode(build.built_json, type=Built)


def has_work(session: Session) -> bool:
    """Say whether a build waits."""
    return session.exec(_waiting()).first() is not None


def claim(session: Session, *, at_ms: int) -> Build | None:
    """Start the build that waits longest and return it, None if none waits."""
    build = session.exec(_waiting()).first()
    if build is None:
        return None
    build.state = after(build.state, Event.START)
    build.attempts += 1
    build.step, build.done, build.of = "starting", 0, 0
    build.started_ms, build.finished_ms = at_ms, None
    session.add(build)
    session.flush()
    return build


def note_progress(session: Session, build_id: str, progress: Progress) -> None:
    """Show how far a running build is."""
    build = get_build(session, build_id)
    build.step, build.done, build.of = progress
    session.add(build)


def finish(session: Session, build_id: str, built: Built, *, at_ms: int) -> Build:
    """Note what a running build made; the last one of a version ends its building.

    Raises:
        MoveError: It is not running.
        AppError: The catalog does not take the version as built.
    """
    build = get_build(session, build_id)
    build.state = after(build.state, Event.FINISH)
    build.built_json = msgspec.json.encode(built).decode()
    build.step, build.done, build.finished_ms = "done", build.of, at_ms
    session.add(build)
    detail = {"profile": build.profile, "precision": built.precision, "why": built.why}
    record(session, WORKER, "build.done", build.version_id, detail, at_ms=at_ms)
    _end_version(session, build.version_id, at_ms)
    return build


def fail(session: Session, build_id: str, error: AppError, *, at_ms: int) -> Build:
    """Note why a build made nothing; the last one of a version ends its building.

    Raises:
        MoveError: It is neither running nor interrupted.
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


def put_back(session: Session, build_id: str) -> Build:
    """Give up a running build in good order: it runs again, and nothing was its fault.

    Raises:
        MoveError: It is not running.
    """
    build = get_build(session, build_id)
    build.state = after(build.state, Event.LOSE)
    build.attempts -= 1
    session.add(build)
    return build


def recover(session: Session, *, at_ms: int) -> list[Build]:
    """Take up what a server that died left running; return those builds.

    Only where no other worker runs: call it when the worker starts.
    """
    running = session.exec(select(Build).where(Build.state == State.RUNNING)).all()
    for build in running:
        build.state = after(build.state, Event.LOSE)
        session.add(build)
        if build.attempts >= MAX_ATTEMPTS:
            fail(session, build.id, _too_often(build), at_ms=at_ms)
    session.flush()
    return list(running)


def retry(session: Session, build_id: str, *, actor: str, at_ms: int) -> Build:
    """Queue a failed build again; its version is then being built again.

    Raises:
        BuildNotFoundError: There is none of this id.
        MoveError: It has not failed.
    """
    build = get_build(session, build_id)
    build.state = after(build.state, Event.RETRY)
    build.attempts = 0
    build.code = build.reason = build.hint = build.step = ""
    build.queued_ms = at_ms
    session.add(build)
    detail = {"profile": build.profile}
    record(session, actor, "build.retried", build.version_id, detail, at_ms=at_ms)
    version = catalog.get_version(session, build.version_id)
    if version.state is VersionState.FAILED:
        catalog.retry_building(session, version.id, actor=actor, now_ms=at_ms)
    return build


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


def _waiting() -> SelectOfScalar[Build]:
    return (
        select(Build)
        .where(col(Build.state).in_([State.QUEUED, State.INTERRUPTED]))
        .order_by(col(Build.queued_ms), col(Build.version_id), col(Build.profile))
        .limit(1)
    )


def _too_often(build: Build) -> LostError:
    return LostError(
        f"the server ended {build.attempts} times while this build ran",
        "See the server's log for why, then try the build again.",
    )
