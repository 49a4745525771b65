"""An approver lets a candidate pass the parity gate: with a reason, kept for good."""

from typing import NamedTuple

from sqlmodel import Session

from modelfleet_server.audit.service import record
from modelfleet_server.builds import service
from modelfleet_server.builds.domain import State
from modelfleet_server.builds.errors import NotGatedError, ParityError
from modelfleet_server.builds.tables import Build


class Override(NamedTuple):
    """Which candidate passes, and why."""

    candidate: str
    reason: str


def override(
    session: Session, build_id: str, wish: Override, *, actor: str, at_ms: int
) -> Build:
    """Let a candidate pass the gate, and build again.

    Whoever calls saw to it that `actor` is an approver. The variant says who and why
    (`waiver`): who signs the release signs that too, and reads it before.

    Raises:
        BuildNotFoundError: There is none of this id.
        NotGatedError: It did not fail by the gate.
    """
    build = service.get_build(session, build_id)
    if build.state is not State.FAILED or build.code != ParityError.code:
        raise NotGatedError(
            f"the build for {build.profile} did not fail by the parity gate",
            "Only that can be overridden; see its reason.",
            state=str(build.state),
            failed=build.code,
        )
    detail = {
        "profile": build.profile,
        "candidate": wish.candidate,
        "reason": wish.reason,
        "gate": build.reason,
    }
    record(session, actor, "build.overridden", build.version_id, detail, at_ms=at_ms)
    build.override = wish.candidate
    build.override_by, build.override_reason = actor, wish.reason
    session.add(build)
    return service.retry(session, build_id, actor=actor, at_ms=at_ms)
