"""The files of a version: looked at on this machine first, then uploaded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelfleet_manifests.digests import sha256_stream
from modelfleet_server.cli import words
from modelfleet_server.cli.client import CHUNK, Client, Json
from modelfleet_server.cli.screen import Bars, Screen
from modelfleet_server.kit.errors import InvalidError

if TYPE_CHECKING:
    from modelfleet_server.builds.messages import ModelFacts

LINEAGE_HINT = (
    'Write {"code": SHA-256, "data": SHA-256, "environment": SHA-256, '
    '"hyperparameters": {...}} into a file and name it with --lineage.'
)


@dataclass(frozen=True)
class Material:
    """The files that a version is made of; `lineage` None is the one beside the model.

    Without `evaluation` it can be looked at, not published.
    """

    model: Path
    evaluation: Path | None
    calibration: Path | None
    lineage: Path | None

    @property
    def lineage_path(self) -> Path:
        """Where the lineage is."""
        return self.lineage or self.model.with_name(f"{self.model.stem}.lineage.json")


def inspect(material: Material, folder: Path) -> tuple["ModelFacts", Path]:
    """Check the files, and return the facts of the model and the file to upload.

    Args:
        material: What was named.
        folder: Where a model with external data is packed into one file.

    Raises:
        InvalidError: A file is refused; says why and what to do.
    """
    from modelfleet_server.builds import children
    from modelfleet_server.builds.datasets import read_dataset

    packed = folder / "master.onnx"
    facts = children.check(material.model, packed=packed)
    for path, labelled in ((material.evaluation, True), (material.calibration, False)):
        if path is not None:
            read_dataset(path, facts.schema, labelled=labelled, what=str(path))
    return facts, packed if packed.exists() else material.model


def read_lineage(path: Path) -> Json:
    """Return the lineage in a file.

    Raises:
        InvalidError: It cannot be read, or is not well-formed.
    """
    from modelfleet_server.catalog.domain import write_lineage

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidError(
            f"the lineage {path} cannot be read: {error.strerror}", LINEAGE_HINT
        ) from None
    except ValueError as error:
        raise InvalidError(
            f"the lineage {path} is not JSON: {error}", LINEAGE_HINT
        ) from None
    if not isinstance(found, dict):
        raise InvalidError(f"the lineage {path} is not an object", LINEAGE_HINT)
    write_lineage(found)
    return found


def upload(client: Client, screen: Screen, files: dict[str, Path]) -> dict[str, str]:
    """Store files on the server, those that it lacks, and return their digests by name."""
    digests: dict[str, str] = {}
    with screen.progress() as bars:
        for what, path in files.items():
            digests[what] = _upload_one(client, bars, what, path)
    return digests


def _upload_one(client: Client, bars: Bars, what: str, path: Path) -> str:
    with path.open("rb") as file:
        digest, length = sha256_stream(iter(lambda: file.read(CHUNK), b""))
    total = words.size(length)
    if not client.has_blob(digest):
        bars.set(f"upload {what}", 0, length, f"0 B of {total}")
        client.upload(
            path,
            digest,
            lambda sent: bars.set(
                f"upload {what}", sent, length, f"{words.size(sent)} of {total}"
            ),
        )
    return digest


def tell_facts(screen: Screen, file: Path, facts: "ModelFacts") -> None:
    """Print what the door found out, as JSON or in words."""
    import msgspec

    document = {"file": str(file), **msgspec.to_builtins(facts)}
    tensors = [
        (what, f"{one.name} {one.datatype} {one.shape}")
        for what, them in (("input", facts.schema.inputs), ("output", facts.schema.outputs))
        for one in them
    ]

    def tell() -> None:
        screen.say(f"{file} can be published.")
        screen.facts(
            [
                ("opset", facts.opset),
                ("nodes", facts.nodes),
                ("parameters", facts.parameters),
                ("operators", ", ".join(facts.operators)),
                ("size", words.size(facts.length)),
                ("external data", ", ".join(facts.external)),
                *tensors,
            ]
        )

    screen.show(document, tell)
