"""The record of a release on this device: all that is needed to serve it offline.

A record is written once its release is verified (`releases/<key>.json`) and carries the
digest of itself, so that a torn or rotten one is noticed before it is believed.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from modelfleet_agent.errors import RetryableError
from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.recalls import Subject

MAX_BYTES = 1 << 16

_encoder = msgspec.json.Encoder(order="deterministic")


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a variant.

    Attributes:
        name: Base name that the graph uses for it (`model.onnx`, `weights.bin`).
        digest: SHA-256.
        length: Bytes.
    """

    name: str
    digest: str
    length: int

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or "/" in self.name:
            raise ValueError(f"file name {self.name!r} must be a plain base name")
        if not is_digest(self.digest) or self.length < 0:
            raise ValueError(f"file {self.name!r} needs a SHA-256 and a length")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A release in the variant that this device runs.

    Attributes:
        release: Release id (SHA-256 of `release.json`).
        model: `namespace/name`.
        version: Semantic version.
        profile: The profile the variant was made for.
        variant: The variant's name, which reports carry.
        providers: Execution providers that it is for, in order; none: the CPU.
        files: The graph first, then files that it refers to.
        golden: Golden inputs and outputs (`.npz`), where the release has some.
        atol: Absolute tolerance of the golden outputs, decimal.
        rtol: Relative tolerance, decimal.
    """

    release: str
    model: str
    version: str
    profile: str
    files: tuple[FileEntry, ...]
    variant: str = ""
    providers: tuple[str, ...] = ()
    golden: FileEntry | None = None
    atol: str = "0"
    rtol: str = "0"

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("a record names at least one file")
        if len({entry.name for entry in self.files}) != len(self.files):
            raise ValueError("two files of one variant have the same name")
        if not is_digest(self.release):
            raise ValueError("release is not a SHA-256")

    @property
    def digest(self) -> str:
        """What reports carry: the file's digest, or `files_digest` of several."""
        return files_digest((entry.name, entry.digest) for entry in self.files)

    @property
    def subject(self) -> Subject:
        """What a recall looks at."""
        names = {self.release, self.digest, *(file.digest for file in self.files)}
        return Subject(self.model, self.version, frozenset(names))

    @property
    def key(self) -> str:
        """Names this release in this variant, in paths and in the runtime."""
        return f"{self.release}.{self.digest}"

    @property
    def length(self) -> int:
        """Bytes of the model's files together, without golden inputs."""
        return sum(entry.length for entry in self.files)

    @property
    def wanted(self) -> tuple[FileEntry, ...]:
        """All files that must be in the store, golden inputs last."""
        return (*self.files, self.golden) if self.golden else self.files


class PlacedFile(msgspec.Struct, frozen=True):
    """A file of a release and where it lies."""

    path: str
    digest: str
    length: int


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A record with the paths that a child process opens; travels to children as JSON.

    Attributes:
        record: What it is.
        files: Paths in the order of `record.files`; the first one is loaded.
        golden: Path of the golden inputs.
        derived: What this device made of the files, to be loaded in their place.
    """

    record: Record
    files: tuple[PlacedFile, ...]
    golden: PlacedFile | None = None
    derived: PlacedFile | None = None


def files_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return one digest for the named files of a variant.

    As `modelfleet_manifests.release.files_digest`, which would bring the documents and
    their libraries into every child.

    Args:
        files: Pairs of base name and SHA-256.

    Returns:
        The digest itself where there is one file, otherwise the SHA-256 of the lines
        `<digest>  <name>`, sorted by name, each ended by a newline.
    """
    pairs = sorted(files)
    if len(pairs) == 1:
        return pairs[0][1]
    lines = "".join(f"{digest}  {name}\n" for name, digest in pairs)
    return hashlib.sha256(lines.encode()).hexdigest()


class _Sealed(msgspec.Struct, forbid_unknown_fields=True):
    v: int
    sha256: str
    record: msgspec.Raw


def encode(record: Record) -> bytes:
    """Return the bytes of a record file."""
    body = _encoder.encode(record)
    sum_ = hashlib.sha256(body).hexdigest()
    return _encoder.encode(_Sealed(v=0, sha256=sum_, record=msgspec.Raw(body)))


def _checked(sealed: _Sealed) -> bytes:
    body = bytes(sealed.record)
    if sealed.v != 0 or hashlib.sha256(body).hexdigest() != sealed.sha256:
        raise ValueError("its digest or its version does not match")
    return body


def decode(data: bytes, *, name: Path) -> Record:
    """Return the record in `data`.

    Raises:
        RetryableError: `E_RECORD`: torn, rotten or of another version. It can be written
            again from the signed release.
    """
    try:
        sealed = msgspec.json.decode(data[:MAX_BYTES], type=_Sealed)
        return msgspec.json.decode(_checked(sealed), type=Record)
    except (ValueError, msgspec.MsgspecError) as error:
        raise RetryableError(
            "E_RECORD",
            f"the record {name} is damaged: {error}",
            hint="it is written again from the signed release",
            path=str(name),
        ) from error
