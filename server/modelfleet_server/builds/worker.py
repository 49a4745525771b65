"""The job that builds one variant: build, prove, and write it all down at its end.

No transaction is open while a child runs. What a build makes is stored as blobs before its
step ends, so that another process can go on from there.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple

import msgspec
from msgspec import UNSET
from sqlmodel import Session

from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.release import File, Golden, Schema, Variant, Waiver
from modelfleet_server.blobs.service import Blob, BlobStore, keep
from modelfleet_server.builds import children, service
from modelfleet_server.builds.emulation import Proof, prove, until_proven, with_proof
from modelfleet_server.builds.errors import BuildError
from modelfleet_server.builds.messages import BuildJob, Built
from modelfleet_server.builds.profiles import find_profile, shipped_profiles
from modelfleet_server.catalog import service as catalog
from modelfleet_server.jobs.kinds import Kind
from modelfleet_server.jobs.run import Run
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.clock import Clock, now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import AppError

log = logging.getLogger(__name__)

OnFinished = Callable[[Session, str], None]
"""Called with a version's id once all its variants are there, in that transaction."""


class Stores(NamedTuple):
    """What a build reads from and writes to.

    Attributes:
        database: Where builds are.
        blobs: Where masters come from and variants go.
        scratch: A directory for the children, emptied after each.
    """

    database: Database
    blobs: BlobStore
    scratch: Path


class Plan(msgspec.Struct, frozen=True):
    """What is built from what, by digest; `bases` are the files that most devices have."""

    version: str
    profile: str
    override: str
    master: str
    evaluation: str
    calibration: str | None
    schema: Schema
    bases: list[File] = []
    waiver: Waiver | None = None


class Stored(msgspec.Struct, frozen=True):
    """What was built, and where its files are; `beside` in the order of `built.beside`."""

    built: Built
    model: Blob
    golden: Blob
    packed: dict[str, catalog.Patch] = {}
    beside: list[Blob] = []

    @property
    def files(self) -> list[File]:
        """The variant's, as a release states them."""
        named = zip(self.built.files, (self.model, *self.beside), strict=True)
        return [
            File(name=file.name, digest=blob.digest, length=blob.length)
            for file, blob in named
        ]


class Outcome(msgspec.Struct, frozen=True):
    """What a job made: a variant of a version."""

    plan: Plan
    stored: Stored
    proof: Proof


class Builder:
    """Does the jobs of kind `service.KIND`.

    Args:
        stores: What it reads from and writes to.
        on_finished: What else follows when the catalog has taken a version as built. If
            it raises `AppError`, the last build is failed with this reason.
        profiles: What is built for which profile; None for the shipped ones.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        stores: Stores,
        on_finished: OnFinished = lambda _session, _version: None,
        *,
        profiles: Mapping[str, Profile] | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self._database, self._blobs, self._scratch = stores
        self._on_finished = on_finished
        self._profiles = profiles or shipped_profiles()
        self._clock = clock

    @property
    def kind(self) -> Kind:
        """What to register with the jobs' engine."""
        return Kind(service.KIND, self.work, self._settle, self._fail)

    def work(self, run: Run) -> Outcome:
        """Build a variant and prove it, each attempt two steps.

        Raises:
            AppError: Why there is none.
        """
        build_id = run.payload(service.Order).build
        plan = run.step("plan", lambda: self._plan(build_id), Plan)
        order = self._order(plan)

        def build(tried: BuildJob) -> Stored:
            name = f"build {len(tried.excluded)}"
            return run.step(name, lambda: self._build(run, tried), Stored)

        def prove_stored(tried: BuildJob, stored: Stored) -> Proof:
            name = f"prove {len(tried.excluded)}"
            return run.step(
                name, lambda: self._prove(run, tried, stored, plan.schema), Proof
            )

        try:
            stored, proof = until_proven(order, build, prove_stored)
        except ManifestError as error:
            raise BuildError(f"{error.what} {error.why}", "Change the version.") from error
        return Outcome(plan, stored, proof)

    def _plan(self, build_id: str) -> Plan:
        with self._database.read() as session:
            build = service.get_build(session, build_id)
            material = catalog.get_material(session, build.version_id)
            tensors = catalog.get_version(session, build.version_id).tensors_json
            return Plan(
                version=build.version_id,
                profile=build.profile,
                override=build.override,
                master=material.master,
                evaluation=material.evaluation,
                calibration=material.calibration,
                bases=service.find_bases(session, build),
                waiver=Waiver(by=build.override_by, reason=build.override_reason)
                if build.override
                else None,
                schema=msgspec.json.decode(tensors, type=Schema),
            )

    def _order(self, plan: Plan) -> BuildJob:
        path = self._blobs.path_of
        return BuildJob(
            master=str(path(plan.master)),
            evaluation=str(path(plan.evaluation)),
            calibration=plan.calibration and str(path(plan.calibration)),
            profile=find_profile(plan.profile, self._profiles),
            override=plan.override,
            bases={file.name: str(path(file.digest)) for file in plan.bases},
        )

    def _build(self, run: Run, tried: BuildJob) -> Stored:
        limits = children.limits_for(Path(tried.master).stat().st_size)
        with self._folder() as folder:
            built = children.build(tried, limits, folder, _ask(run))
            for problem in built.problems:
                log.warning("job %s: %s", run.job.id, problem)
            return Stored(
                built,
                self._blobs.put(folder / built.model.name),
                self._blobs.put(folder / built.golden.name),
                {
                    patch.target: catalog.Patch(
                        self._blobs.put(folder / patch.name), patch.method, patch.memory
                    )
                    for patch in built.packed
                },
                [self._blobs.put(folder / file.name) for file in built.beside],
            )

    def _prove(self, run: Run, tried: BuildJob, stored: Stored, schema: Schema) -> Proof:
        with self._folder() as folder:
            for file in stored.files:
                # copied: a graph may not reach its weights by a link
                copyfile(self._blobs.path_of(file.digest), folder / file.name)
            variant = folder / stored.built.model.name
            return prove(tried, stored.built, variant, schema, _ask(run))

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=self._scratch) as folder:
            yield Path(folder)

    def _settle(self, session: Session, job: Job, outcome: Outcome) -> None:
        """Write down everything at once: blobs, variant, the build's end, what follows."""
        now, plan, stored = self._clock(), outcome.plan, outcome.stored
        built = with_proof(stored.built, outcome.proof)
        calibration = plan.calibration if built.calibrated else None
        variant = make_variant(plan.profile, stored, calibration or "", plan.waiver)
        for file in (*variant.files, variant.golden.file):
            keep(session, Blob(file.digest, file.length), at_ms=now)
        for target, patch in stored.packed.items():
            catalog.offer_delta(session, target, EMPTY, patch, now_ms=now)
        catalog.add_variant(session, plan.version, variant, at_ms=now)
        proof = find_profile(plan.profile, self._profiles).prove
        # an approver who overrides the gate vouches for it
        awaits = proof.reference_devices > 0 and not built.overridden
        service.finish(session, job.key, built, at_ms=now, awaits=awaits)
        if service.all_done(session, plan.version):
            self._on_finished(session, plan.version)

    def _fail(self, session: Session, job: Job, error: AppError) -> None:
        service.fail(session, job.key, error, at_ms=self._clock())


def _ask(run: Run) -> children.Ask:
    return children.Ask(lambda progress: run.progress(*progress), run.stop)


def make_variant(
    profile: str, stored: Stored, calibration: str, waiver: Waiver | None = None
) -> Variant:
    """Return the variant as a release states it; nobody has vouched for it yet."""
    built, golden = stored.built, stored.golden
    return Variant(
        name=f"{profile}-{built.recipe_name or built.precision}",
        profile=profile,
        opset=built.opset,
        providers=[],  # every recipe of today also runs on the CPU
        files=stored.files,
        golden=Golden(
            file=File(name=built.golden.name, digest=golden.digest, length=golden.length),
            atol=built.atol,
            rtol=built.rtol,
        ),
        recipe=built.recipe,
        toolchain=built.toolchain,
        calibration=calibration,
        vouched="waived",
        metrics=built.metrics,
        waiver=waiver or UNSET,
    )
