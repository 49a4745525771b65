"""Makes versions and queues their builds, as the API does."""

import itertools
from pathlib import Path

from tests.server.builds.models import (
    CALIBRATION,
    EVALUATION,
    digits,
    endless,
    save,
    write_set,
)

from modelfleet_manifests.release import Schema, Tensor
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import service
from modelfleet_server.catalog import service as catalog
from modelfleet_server.kit.db import Database

LINEAGE = {
    "code": "c" * 64,
    "data": "d" * 64,
    "environment": "e" * 64,
    "hyperparameters": {},
}
SCHEMA = Schema(
    inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 1, 8, 8])],
    outputs=[Tensor(name="logits", datatype="FP32", shape=[-1, 10])],
)


class Desk:
    """A new version per call, numbered upwards."""

    def __init__(self, database: Database, blobs: BlobStore, folder: Path) -> None:
        self.database, self.blobs, self.folder = database, blobs, folder
        self.numbers = itertools.count(1)

    def publish(
        self,
        *profiles: str,
        master: Path | None = None,
        evaluation: Path = EVALUATION,
        calibration: Path | None = CALIBRATION,
        at_ms: int = 1,
        model: str = "demo/digits",
    ) -> str:
        """Return the id of a new version."""
        new = catalog.NewVersion(
            model=model,
            version=f"1.0.{next(self.numbers)}",
            master=self.blobs.put(master or digits()).digest,
            evaluation=self.blobs.put(evaluation).digest,
            calibration=self.blobs.put(calibration).digest if calibration else None,
            lineage=LINEAGE,
            schema=SCHEMA,
            profiles=profiles,
        )
        with self.database.write() as session:
            version = catalog.create_version(
                session, self.blobs, new, actor="user:ada", now_ms=at_ms
            )
            service.queue(session, version.id, profiles, actor="user:ada", at_ms=at_ms)
            return version.id

    def publish_endless(self) -> str:
        """A version whose build never ends by itself."""
        return self.publish(
            "generic",
            master=save(endless(), self.folder / "endless.onnx"),
            evaluation=write_set(self.folder / "samples.npz"),
            calibration=None,
        )

    def publish_misfit(self, *profiles: str) -> str:
        """A version whose evaluation set does not fit its master."""
        samples = write_set(self.folder / "misfit.npz")
        return self.publish(*profiles, evaluation=samples)
