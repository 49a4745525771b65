"""External data of an ONNX file: tensors whose bytes lie in files beside it."""

import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from onnx import ModelProto, TensorProto

from modelfleet_server.builds.errors import ExternalDataError, ModelSizeError
from modelfleet_server.builds.graph import walk_tensors

MAX_EXTERNAL = 8 << 30
"""Bytes of all files with external data together."""
_HINT = "Put the data beside the model and name it by a plain relative path."


class Part(NamedTuple):
    """Where the bytes of a tensor lie, as the file claims: untrusted."""

    tensor: str
    location: str
    offset: int
    length: int | None

    def check_length(self, wanted: int, model: str) -> None:
        """Check that as many bytes are named as the shape needs.

        Raises:
            ExternalDataError: They are not.
        """
        if self.length is not None and self.length != wanted:
            raise ExternalDataError(
                f"the tensor {self.tensor!r} of {model} names {self.length} bytes of "
                f"external data, its shape needs {wanted}",
                "Export the model again.",
            )


def external_parts(tensor: TensorProto) -> Iterator[Part]:
    """Yield where the bytes of `tensor` lie, nothing if they are in the model file.

    Raises:
        ExternalDataError: Offset or length are no numbers.
    """
    if tensor.data_location != TensorProto.EXTERNAL:
        return
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries["length"]) if "length" in entries else None
    except ValueError:
        offset, length = -1, None
    if offset < 0 or (length is not None and length < 0):
        raise ExternalDataError(
            f"the tensor {tensor.name!r} names no valid place in its external data",
            "Export the model again.",
        )
    yield Part(tensor.name, entries.get("location", ""), offset, length)


def check_external(model: ModelProto, path: Path) -> list[str]:
    """Return the files with external data, relative to the model's folder, sorted.

    Raises:
        ExternalDataError: One is missing, too short, not a regular file, or reached by a
            path that is absolute, climbs out, or goes over a symbolic link.
        ModelSizeError: They are larger than `MAX_EXTERNAL`.
    """
    lengths: dict[str, int] = {}
    for tensor in walk_tensors(model):
        for part in external_parts(tensor):
            if part.location not in lengths:
                lengths[part.location] = _length_of(part.location, path)
            end = part.offset + (part.length or 0)
            if end > lengths[part.location]:
                raise ExternalDataError(
                    f"{path.name} needs {end} bytes of {part.location!r}, which has "
                    f"{lengths[part.location]}",
                    "The file is cut off or of another version: export the model again.",
                )
    if sum(lengths.values()) > MAX_EXTERNAL:
        raise ModelSizeError(
            f"{path.name} has {sum(lengths.values())} bytes of external data, at most "
            f"{MAX_EXTERNAL} are allowed",
            "Prune or split the model.",
        )
    return sorted(lengths)


def _length_of(location: str, model: Path) -> int:
    """Return the size of a file, having looked at every step on the way to it."""
    pure = PurePosixPath(location)
    if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location:
        raise ExternalDataError(
            f"{model.name} keeps external data at {location!r}, outside of its folder",
            _HINT,
        )
    step = model.parent
    for name in pure.parts:
        step /= name
        try:
            found = step.lstat()
        except (OSError, ValueError):
            raise ExternalDataError(
                f"{model.name} needs the file {location!r}, which is not beside it", _HINT
            ) from None
        if stat.S_ISLNK(found.st_mode):
            raise ExternalDataError(
                f"{model.name} reaches its external data {location!r} by a symbolic link",
                _HINT,
            )
    if not step.is_file():
        raise ExternalDataError(
            f"{model.name} needs {location!r}, which is not a file", _HINT
        )
    return step.stat().st_size
