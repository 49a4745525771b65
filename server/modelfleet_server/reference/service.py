"""What can be done with evaluations. Never commits."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from sqlmodel import Session, col, select

from modelfleet_manifests.document import cap_of, read
from modelfleet_manifests.envelope import peek
from modelfleet_manifests.evaluation import (
    KIND,
    REFERENCE,
    RESULT,
    Allowance,
    EvaluationResult,
)
from modelfleet_manifests.evaluation import Evaluation as Document
from modelfleet_manifests.header import Header
from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.release import File, Variant
from modelfleet_manifests.topics import device_topic
from modelfleet_server.audit.service import record
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import service as builds
from modelfleet_server.builds.domain import State as BuildState
from modelfleet_server.builds.emulation import judge
from modelfleet_server.builds.errors import ParityError
from modelfleet_server.builds.messages import Scores
from modelfleet_server.builds.profiles import find_profile
from modelfleet_server.builds.tables import Build
from modelfleet_server.catalog import service as catalog
from modelfleet_server.devices.tables import Device, DeviceLabel
from modelfleet_server.kit.access import system
from modelfleet_server.kit.errors import AppError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.reference.domain import (
    COUNTED,
    EvaluationNotFoundError,
    Event,
    State,
    after,
)
from modelfleet_server.reference.tables import Evaluation
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.drafting import Draft

ACTOR = str(system("reference"))
GRADE = "grade"
"""Kind of the jobs that grade answers."""
DUE_MS = 2 * 3_600_000
"""A device that has not answered by then is not waited for any more."""
WALL_S = 3600
SAMPLES = 1000
LEAST_MB = 512
HINT = "Let an approver override the gate, or change the model or the profile."


class GradeOrder(msgspec.Struct, frozen=True):
    """What a job that grades is told: which evaluation."""

    evaluation: str


@dataclass(frozen=True)
class Referee:
    """Gives candidates to reference devices.

    Attributes:
        director: Signs what they are to do.
        blobs: Where candidates and evaluation sets are.
        profiles: All that there are.
    """

    director: Director
    blobs: BlobStore
    profiles: Mapping[str, Profile]

    def next_document(
        self, session: Session, device_id: str, *, now_ms: int
    ) -> bytes | None:
        """Return the signed document of what a device is to evaluate next, None if nothing.

        A device that asks again before it answered gets the same document again.

        Args:
            session: Writing.
            device_id: Of an enrolled device; others than reference devices get nothing.
            now_ms: Unix milliseconds.
        """
        label = session.get(DeviceLabel, (device_id, "role"))
        device = session.get(Device, device_id)
        if device is None or label is None or {"role": label.value} != REFERENCE:
            return None
        _let_lapse(session, now_ms)
        held = session.exec(
            select(Evaluation).where(
                Evaluation.device == device_id, Evaluation.state == State.ISSUED
            )
        ).first()
        if held is not None:
            return held.document
        for build in _awaiting(session, device.profile):
            variant = _variant(session, build)
            wanted = find_profile(build.profile, self.profiles).prove.reference_devices
            rows = list_evaluations(session, build.id, variant.digest)
            mine = next((one for one in rows if one.device == device_id), None)
            counted = sum(one.state in COUNTED for one in rows)
            if counted >= wanted or (mine is not None and mine.state is not State.LAPSED):
                continue
            return self._issue(session, device, build, variant, mine, now_ms)
        return None

    def _issue(
        self,
        session: Session,
        device: Device,
        build: Build,
        variant: Variant,
        row: Evaluation | None,
        now_ms: int,
    ) -> bytes:
        job = new_id() if row is None else row.id
        material = catalog.get_material(session, build.version_id)
        model = catalog.get_version(session, build.version_id).model
        profile = find_profile(build.profile, self.profiles)
        samples = self.blobs.get(material.evaluation)

        def make(header: Header) -> Document:
            return Document(
                header=header,
                job=job,
                model=model,
                candidate=list(variant.files),
                samples=File(
                    name="samples.npz", digest=samples.digest, length=samples.length
                ),
                allowance=Allowance(
                    memory_mb=max(profile.memory_mb, LEAST_MB),
                    wall_s=WALL_S,
                    samples=SAMPLES,
                ),
            )

        topic = device_topic(device.id, KIND)
        draft = Draft(topic, make, device=device.id, enrolment=device.enrolment)
        signed = documents.sign(session, self.director, draft, now_ms=now_ms)
        if row is None:
            row = Evaluation(
                id=job,
                build_id=build.id,
                device=device.id,
                candidate=variant.digest,
                state=State.ISSUED,
                document=signed.envelope,
                issued_ms=now_ms,
                due_ms=now_ms + DUE_MS,
            )
        else:
            row.state = after(row.state, Event.ISSUE)
            row.document, row.issued_ms = signed.envelope, now_ms
            row.due_ms = now_ms + DUE_MS
        session.add(row)
        detail = {"device": device.id, "profile": build.profile, "candidate": row.candidate}
        record(session, ACTOR, "evaluation.issued", job, detail, at_ms=now_ms)
        return signed.envelope

    def settle(
        self, session: Session, evaluation_id: str, scores: Scores, *, at_ms: int
    ) -> None:
        """Note what graded answers are worth; enough evidence ends the build.

        Raises:
            EvaluationStateError: Nobody waits for the grade.
        """
        row = get_evaluation(session, evaluation_id)
        build = builds.get_build(session, row.build_id)
        built = builds.read_built(build)
        profile = find_profile(build.profile, self.profiles)
        name = built.recipe_name if built else ""
        reason = judge(name, scores, profile)
        row.scores_json = msgspec.json.encode(scores).decode()
        row.state = after(row.state, Event.MISS if reason else Event.PASS)
        row.reason, row.finished_ms = reason, at_ms
        session.add(row)
        session.flush()
        detail = {"device": row.device, "accuracy": f"{scores.accuracy:.6f}", "why": reason}
        record(session, ACTOR, f"evaluation.{row.state}", row.id, detail, at_ms=at_ms)
        if reason:
            refuse(session, build, row, reason, at_ms)
            return
        rows = list_evaluations(session, build.id, row.candidate)
        passed = sum(one.state is State.PASSED for one in rows)
        if build.state is BuildState.AWAITING and passed >= profile.prove.reference_devices:
            builds.prove(session, build.id, at_ms=at_ms)


def fail_grading(session: Session, evaluation_id: str, error: AppError, at_ms: int) -> None:
    """Note that answers could not be graded; another device may be asked."""
    row = get_evaluation(session, evaluation_id)
    row.state = after(row.state, Event.FAIL)
    row.reason, row.finished_ms = error.what, at_ms
    session.add(row)
    detail = {"device": row.device, "why": error.what}
    record(session, ACTOR, "evaluation.failed", row.id, detail, at_ms=at_ms)


def get_evaluation(
    session: Session, evaluation_id: str, device_id: str | None = None
) -> Evaluation:
    """Return an evaluation, where `device_id` is given only one of that device.

    Raises:
        EvaluationNotFoundError: There is no such evaluation.
    """
    row = session.get(Evaluation, evaluation_id)
    if row is None or device_id not in {None, row.device}:
        raise EvaluationNotFoundError(
            f"there is no evaluation {evaluation_id}", "Ask for the next one."
        )
    return row


def list_evaluations(session: Session, build_id: str, candidate: str) -> list[Evaluation]:
    """Return the evaluations of a build's candidate, oldest first."""
    statement = select(Evaluation).where(
        Evaluation.build_id == build_id, Evaluation.candidate == candidate
    )
    return list(session.exec(statement.order_by(col(Evaluation.issued_ms))).all())


def read_result(row: Evaluation) -> EvaluationResult | None:
    """Return what a device said; it was verified when it came."""
    if not row.result:
        return None
    cap = cap_of(RESULT)
    return read(peek(row.result, RESULT, cap=cap), EvaluationResult, RESULT, cap=cap)


def refuse(session: Session, build: Build, row: Evaluation, why: str, at_ms: int) -> None:
    """Let what a device found out end the build, unless something else did."""
    if build.state is not BuildState.AWAITING:
        return
    error = ParityError(f"on the reference device {row.device}: {why}", HINT)
    builds.fail(session, build.id, error, at_ms=at_ms)


def _awaiting(session: Session, profile: str) -> list[Build]:
    statement = select(Build).where(
        Build.state == BuildState.AWAITING, Build.profile == profile
    )
    return list(session.exec(statement.order_by(col(Build.queued_ms))).all())


def _variant(session: Session, build: Build) -> Variant:
    variants = catalog.variants_of(session, build.version_id)
    return next(one for one in variants if one.profile == build.profile)


def _let_lapse(session: Session, now_ms: int) -> None:
    overdue = select(Evaluation).where(
        Evaluation.state == State.ISSUED, col(Evaluation.due_ms) < now_ms
    )
    for row in session.exec(overdue).all():
        row.state = after(row.state, Event.LAPSE)
        session.add(row)
    session.flush()
