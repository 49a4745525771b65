"""The jobs that grade answers: beside the master's, in a limited child."""

from pathlib import Path

import msgspec
from sqlmodel import Session

from modelfleet_manifests.release import Schema
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import children
from modelfleet_server.builds.emulation import NATIVE
from modelfleet_server.builds.messages import GradeJob, Scores
from modelfleet_server.builds.service import get_build
from modelfleet_server.catalog import service as catalog
from modelfleet_server.jobs.kinds import Kind
from modelfleet_server.jobs.run import Run
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.clock import Clock, now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import AppError
from modelfleet_server.reference import service
from modelfleet_server.reference.service import GRADE, GradeOrder, Referee


class Plan(msgspec.Struct, frozen=True):
    """What is graded: digests, and the master's schema."""

    master: str
    evaluation: str
    answers: str
    schema: Schema


class Grader:
    """Does the jobs of kind `service.GRADE`.

    Args:
        database: Where evaluations are.
        blobs: Where masters, sets and answers are.
        referee: Judges.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        referee: Referee,
        clock: Clock = now_ms,
    ) -> None:
        self._database, self._blobs = database, blobs
        self._referee, self._clock = referee, clock

    @property
    def kind(self) -> Kind:
        """What to register with the jobs' engine."""
        return Kind(GRADE, self._work, self._settle, self._fail)

    def _work(self, run: Run) -> Scores:
        evaluation = run.payload(GradeOrder).evaluation
        plan = run.step("plan", lambda: self._plan(evaluation), Plan)
        return run.step("grade", lambda: self._grade(run, plan), Scores)

    def _plan(self, evaluation: str) -> Plan:
        with self._database.read() as session:
            row = service.get_evaluation(session, evaluation)
            version = get_build(session, row.build_id).version_id
            material = catalog.get_material(session, version)
            tensors = catalog.get_version(session, version).tensors_json
            return Plan(
                master=material.master,
                evaluation=material.evaluation,
                answers=row.answers,
                schema=msgspec.json.decode(tensors, type=Schema),
            )

    def _grade(self, run: Run, plan: Plan) -> Scores:
        def path(digest: str) -> str:
            return str(Path(self._blobs.path_of(digest)))

        job = GradeJob(
            master=path(plan.master),
            evaluation=path(plan.evaluation),
            schema=plan.schema,
            answers=path(plan.answers),
        )
        ask = children.Ask(lambda progress: run.progress(*progress), run.stop)
        return children.grade(job, NATIVE, ask)

    def _settle(self, session: Session, job: Job, scores: Scores) -> None:
        self._referee.settle(session, job.key, scores, at_ms=self._clock())

    def _fail(self, session: Session, job: Job, error: AppError) -> None:
        service.fail_grading(session, job.key, error, self._clock())
