"""Works builds off: claims a row, runs a limited child, stores what it made.

No transaction is open while a child runs. A build that ends for a reason of its own is
failed with that reason; one that was cut off (the server stopped, or died) is interrupted
and runs again.
"""

import logging
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlmodel import Session

from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.release import File, Golden, Schema, Variant
from modelfleet_server.blobs.service import Blob, BlobStore, keep
from modelfleet_server.builds import children, service
from modelfleet_server.builds.domain import BuildJob, Built, Progress
from modelfleet_server.builds.emulation import build_proven
from modelfleet_server.builds.errors import BuildError, ChildError
from modelfleet_server.builds.profiles import find_profile, shipped_profiles
from modelfleet_server.builds.tables import Build
from modelfleet_server.catalog import service as catalog
from modelfleet_server.kit.clock import Clock, now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import AppError, UnavailableError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
"""How soon a queued build is seen, whichever process queued it; one indexed read."""
STOP_S = 10.0
OVERRIDE = "parity-override"
"""The metric of a variant that an approver let pass the gate: it is signed and shown."""


OnFinished = Callable[[Session, str], None]
"""Called with a version's id once all its variants are there, in that transaction."""


class Stores(NamedTuple):
    """What a worker reads from and writes to.

    Attributes:
        database: Where builds are.
        blobs: Where masters come from and variants go.
        scratch: A directory for the children, emptied after each.
    """

    database: Database
    blobs: BlobStore
    scratch: Path


class Worker:
    """Threads that each run one child at a time.

    Only one process may have a worker: starting takes up what another left running.

    Args:
        stores: What it reads from and writes to.
        on_finished: What else follows when the catalog has taken a version as built. If
            it raises `AppError`, the last build is failed with this reason.
        children: How many builds run at once.
        profiles: What is built for which profile; None for the shipped ones.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        stores: Stores,
        on_finished: OnFinished = lambda _session, _version: None,
        *,
        children: int = 1,
        profiles: Mapping[str, Profile] | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self._database, self._blobs, self._scratch = stores
        self._on_finished = on_finished
        self._profiles = profiles or shipped_profiles()
        self._clock = clock
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"build-{number}", daemon=True)
            for number in range(children)
        ]

    def start(self) -> None:
        """Take up interrupted builds and begin to work."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with self._database.write() as session:
            for build in service.recover(session, at_ms=self._clock()):
                log.warning("build %s of %s was cut off", *_names(build))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Kill the children, put their builds back, and return when no thread runs."""
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                idle = not self.work_once()
            except Exception:
                log.exception("the build worker failed; it goes on")
                idle = True
            if idle:
                self._stop.wait(LOOK_EVERY_S)

    def work_once(self) -> bool:
        """Run the build that waits longest to its end; say whether there was one."""
        with self._database.read() as session:
            if not service.has_work(session):
                return False
        with self._database.write() as session:
            build = service.claim(session, at_ms=self._clock())
        if build is None:
            return False
        try:
            self._build(build)
        except (children.StoppedError, UnavailableError) as error:
            log.info("build %s of %s waits: %s", *_names(build), error)
            with self._database.write() as session:
                service.put_back(session, build.id)
        except AppError as error:
            self._fail(build, error)
        except ManifestError as error:
            self._fail(
                build, BuildError(f"{error.what} {error.why}", "Change the version.")
            )
        except Exception as error:
            log.exception("build %s of %s", *_names(build))
            self._fail(build, _defect(error))
        return True

    def _fail(self, build: Build, error: AppError) -> None:
        log.warning("build %s of %s failed: %s", *_names(build), error)
        with self._database.write() as session:
            service.fail(session, build.id, error, at_ms=self._clock())

    def _build(self, build: Build) -> None:
        with self._database.read() as session:
            material = catalog.get_material(session, build.version_id)
            base = service.find_base(session, build)
            tensors = catalog.get_version(session, build.version_id).tensors_json
        master = self._blobs.get(material.master)
        job = BuildJob(
            master=str(self._blobs.path_of(master.digest)),
            evaluation=str(self._blobs.path_of(material.evaluation)),
            calibration=material.calibration
            and str(self._blobs.path_of(material.calibration)),
            profile=find_profile(build.profile, self._profiles),
            override=build.override,
            base=base and str(self._blobs.path_of(base)),
        )
        ask = children.Ask(lambda progress: self._note(build.id, progress), self._stop)
        limits = children.limits_for(master.length)
        with tempfile.TemporaryDirectory(prefix="build-", dir=self._scratch) as folder:
            schema = msgspec.json.decode(tensors, type=Schema)
            built, made = build_proven(job, limits, Path(folder), schema, ask)
            for problem in built.problems:
                log.warning("build %s of %s: %s", *_names(build), problem)
            model = self._blobs.put(made / built.model.name)
            golden = self._blobs.put(made / built.golden.name)
            packed = {
                patch.target: catalog.Patch(
                    self._blobs.put(made / patch.name), patch.method, patch.memory
                )
                for patch in built.packed
            }
        calibration = material.calibration if built.calibrated else None
        variant = make_variant(build.profile, built, model, golden, calibration or "")
        self._settle(build, built, variant, packed)

    def _note(self, build_id: str, progress: Progress) -> None:
        with self._database.write() as session:
            service.note_progress(session, build_id, progress)

    def _settle(
        self,
        build: Build,
        built: Built,
        variant: Variant,
        packed: Mapping[str, catalog.Patch],
    ) -> None:
        """Write down everything at once: blobs, variant, the build's end, what follows."""
        now = self._clock()
        files = (*variant.files, variant.golden.file)
        with self._database.write() as session:
            for file in files:
                keep(session, Blob(file.digest, file.length), at_ms=now)
            for target, patch in packed.items():
                catalog.offer_delta(session, target, EMPTY, patch, now_ms=now)
            catalog.add_variant(session, build.version_id, variant, at_ms=now)
            service.finish(session, build.id, built, at_ms=now)
            if service.all_done(session, build.version_id):
                self._on_finished(session, build.version_id)


def make_variant(
    profile: str, built: Built, model: Blob, golden: Blob, calibration: str
) -> Variant:
    """Return the variant as a release states it; nobody has vouched for it yet."""
    return Variant(
        name=f"{profile}-{built.recipe_name or built.precision}",
        profile=profile,
        opset=built.opset,
        providers=[],  # every recipe of today also runs on the CPU
        files=[File(name=built.model.name, digest=model.digest, length=model.length)],
        golden=Golden(
            file=File(name=built.golden.name, digest=golden.digest, length=golden.length),
            atol=built.atol,
            rtol=built.rtol,
        ),
        recipe=built.recipe,
        toolchain=built.toolchain,
        calibration=calibration,
        vouched="waived",
        metrics={**built.metrics, **({OVERRIDE: "1"} if built.overridden else {})},
    )


def _names(build: Build) -> tuple[str, str]:
    return build.profile, build.version_id


def _defect(error: Exception) -> ChildError:
    return ChildError(
        f"the server failed while it built: {type(error).__name__}: {error}",
        "This is a defect; the server's log has the details.",
    )
