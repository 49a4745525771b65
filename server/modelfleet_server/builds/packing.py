"""A model and its external data as one file, so that one digest names it."""

from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_model

from modelfleet_server.builds import door
from modelfleet_server.builds.errors import ExternalDataError, ModelSizeError
from modelfleet_server.builds.messages import ModelFacts


def inspect(path: Path, packed: Path | None) -> ModelFacts:
    """Check the model at `path`; write it to `packed` with all its data in it.

    With `packed`, a model that has no external data is not written: it is one file already.
    Without, external data is refused: a master is one file on the server.

    Raises:
        ModelError: The door refuses it.
        ModelSizeError: It does not fit into one file.
    """
    facts = door.check(path)
    if not facts.external:
        return facts
    if packed is None:
        raise ExternalDataError(
            f"{path.name} keeps weights in other files ({', '.join(facts.external)})",
            "Publish it with `modelfleet publish`, which puts them into one file.",
        )
    model = onnx.load(path, load_external_data=False)
    load_external_data_for_model(model, str(path.parent))
    if model.ByteSize() > door.MAX_FILE:
        raise ModelSizeError(
            f"{path.name} has {model.ByteSize()} bytes with its external data",
            f"At most {door.MAX_FILE} fit into one file: prune the model.",
        )
    onnx.save(model, packed)
    return facts
