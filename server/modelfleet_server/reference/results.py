"""What devices answer: uploaded, signed, checked, and handed on to be graded."""

from msgspec import UNSET
from sqlmodel import Session, select

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.evaluation import EvaluationResult, open_result
from modelfleet_manifests.keys import PublicKey
from modelfleet_server.audit.service import record
from modelfleet_server.blobs.service import Blob, BlobStore, forget, keep
from modelfleet_server.builds import service as builds
from modelfleet_server.catalog import service as catalog
from modelfleet_server.devices.tables import Device
from modelfleet_server.jobs.service import Wish, submit
from modelfleet_server.reference.domain import (
    EvaluationStateError,
    Event,
    ResultError,
    State,
    after,
)
from modelfleet_server.reference.service import (
    ACTOR,
    GRADE,
    GradeOrder,
    get_evaluation,
    refuse,
)
from modelfleet_server.reference.tables import Evaluation

MAGIC = b"\x93NUMPY"
"""How answers begin, an npy. No model, set or patch does, so that what takes the place of
a device's earlier answers can never take away another file."""


def require_awaited(session: Session, device_id: str, evaluation_id: str) -> Evaluation:
    """Return an evaluation that waits for the answers of this device.

    Raises:
        EvaluationNotFoundError: There is no such evaluation of this device.
        EvaluationStateError: It is not waited for.
    """
    row = get_evaluation(session, evaluation_id, device_id)
    if row.state is not State.ISSUED:
        raise _not_awaited(row)
    return row


def take_answers(
    session: Session,
    row: Evaluation,
    answers: Blob,
    store: BlobStore,
    *,
    now_ms: int,
) -> None:
    """Note the answers that a device uploaded, in the place of those it did before.

    Args:
        session: Writing.
        row: From `require_awaited`.
        answers: They begin with `MAGIC`.
        store: Where they are, and where those before go.
        now_ms: Unix milliseconds.
    """
    before, row.answers = row.answers, answers.digest
    keep(session, answers, at_ms=now_ms)
    session.add(row)
    session.flush()
    used = select(Evaluation.id).where(Evaluation.answers == before)
    if before and session.exec(used).first() is None:
        forget(session, before, store)


def take_result(
    session: Session, device_id: str, evaluation_id: str, envelope: bytes, *, now_ms: int
) -> Evaluation:
    """Take in what a device signed, and have its answers graded; idempotent.

    Raises:
        EvaluationNotFoundError: There is no such evaluation of this device.
        EvaluationStateError: It is not waited for.
        ResultError: It is not signed by the device, or is about something else.
    """
    row = get_evaluation(session, evaluation_id, device_id)
    if row.result == envelope:
        return row
    result = _open(session, row, envelope)
    build = builds.get_build(session, row.build_id)
    if result.measured is UNSET:
        row.state = after(row.state, Event.FAIL)
        row.result, row.finished_ms = envelope, now_ms
        row.reason = f"{result.code}: {result.reason}"
        session.add(row)
        detail = {"device": device_id, "why": row.reason}
        record(session, ACTOR, "evaluation.failed", row.id, detail, at_ms=now_ms)
        refuse(session, build, row, row.reason, now_ms)
        return row
    if result.measured.answers != row.answers:
        raise ResultError(
            "the result names other answers than were uploaded",
            "Upload the answers first, then the result.",
        )
    row.state, row.result = after(row.state, Event.ANSWER), envelope
    session.add(row)
    lane = catalog.get_version(session, build.version_id).model
    wish = Wish(GRADE, row.id, lane, GradeOrder(row.id))
    submit(session, wish, actor=f"device:{device_id}", at_ms=now_ms, again=True)
    return row


def _open(session: Session, row: Evaluation, envelope: bytes) -> EvaluationResult:
    device = session.get_one(Device, row.device)
    try:
        result = open_result(envelope, device.id, [PublicKey(device.report_key)])
    except ManifestError as error:
        raise ResultError(f"the result is refused: {error}") from None
    same = (result.job, result.candidate, result.enrolment)
    if same != (row.id, row.candidate, device.enrolment):
        raise ResultError("the result is about another evaluation or enrolment")
    return result


def _not_awaited(row: Evaluation) -> EvaluationStateError:
    return EvaluationStateError(
        f"the evaluation {row.id} is {row.state}", "Ask for the next one.", state=row.state
    )
