"""Files that this device made itself from a release's: engines, optimised graphs.

    releases/<key>/.derived/model.onnx   what is loaded in place of the graph
    releases/<key>/.derived/made.json    what it was made of and by, and its digest

They go with their release. One that was made of other files, or by another runtime or for
another processor than there is now, is not used and made again; so is one whose bytes
changed.
"""

import hashlib
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.store.record import PlacedFile, Record
from modelfleet_agent.store.store import Store

FOLDER, MODEL, MADE = ".derived", "model.onnx", "made.json"
MAX_BYTES = 1 << 14

_encoder = msgspec.json.Encoder(order="deterministic")


class Derivation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that decides what a derived file is.

    Attributes:
        provider: Whose it is.
        options: Its options.
        sources: Digests of the release's files, in their order.
        runtime: `onnxruntime <version>`.
        libraries: Of accelerators, with versions: TensorRT's and CUDA's.
        compute: Compute capability of the GPU.
        cpu: What tells processors apart (`facts.cpu_model`).
    """

    provider: str
    options: dict[str, str]
    sources: tuple[str, ...]
    runtime: str
    libraries: tuple[str, ...] = ()
    compute: str = ""
    cpu: str = ""

    @property
    def key(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(_encoder.encode(self)).hexdigest()


class _Made(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    derivation: Derivation
    digest: str
    length: int
    sha256: str  # of the three above: a flipped bit may still be a digest


class DerivedFiles:
    """The derived files of one store. `adopt` and `drop` may be cut and repeated."""

    def __init__(self, store: Store) -> None:
        """Nothing is created before something is derived."""
        self._store = store

    def path(self, record: Record, name: str = MODEL) -> Path:
        """Return where a derived file lies, or would lie."""
        return self._store.releases / record.key / FOLDER / name

    def find(self, record: Record, derivation: Derivation) -> PlacedFile | None:
        """Return the derived file, None where none was made by just this derivation.

        Its bytes are not read: whoever loads it does that.
        """
        path = self.path(record)
        try:
            data = self.path(record, MADE).read_bytes()[:MAX_BYTES]
            made = msgspec.json.decode(data, type=_Made)
            length = path.stat().st_size
        except (OSError, msgspec.MsgspecError):
            return None
        sound = made.sha256 == _sum(made.derivation, made.digest, made.length)
        if not sound or made.derivation != derivation or length != made.length:
            return None
        return PlacedFile(path=str(path), digest=made.digest, length=made.length)

    def is_sound(self, file: PlacedFile) -> bool:
        """Read a derived file and say whether its bytes are what was made."""
        try:
            return fsio.hash_file(Path(file.path)) == (file.digest, file.length)
        except OSError:
            return False  # it is made again

    def begin(self, record: Record) -> Path:
        """Return where a file is to be made; what was half made before is gone."""
        self.drop(record)
        folder = self.path(record).parent
        return fsio.private_dir(folder) / f"{fsio.TMP}{MODEL}"

    def adopt(self, record: Record, derivation: Derivation, made: Path) -> PlacedFile:
        """Take what was made at `made`; it counts once its note is on disk, too.

        Raises:
            RetryableError: The disk is in the way.
        """
        digest, length = fsio.hash_file(made)
        fsio.seal(made)
        fsio.rename(made, self.path(record))
        note = _Made(
            derivation=derivation,
            digest=digest,
            length=length,
            sha256=_sum(derivation, digest, length),
        )
        fsio.write_atomic(self.path(record, MADE), _encoder.encode(note))
        return PlacedFile(path=str(self.path(record)), digest=digest, length=length)

    def drop(self, record: Record) -> None:
        """Remove what was derived from a release. Idempotent."""
        fsio.remove(self.path(record, MADE))  # first: without it nothing counts
        fsio.remove_tree(self.path(record).parent)


def _sum(derivation: Derivation, digest: str, length: int) -> str:
    return hashlib.sha256(_encoder.encode([derivation, digest, length])).hexdigest()
