"""One model in ONNX Runtime. Child processes only: imports numpy and ONNX Runtime."""

import contextlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from zipfile import BadZipFile

import onnxruntime as ort
from numpy.lib.npyio import NpzFile

from modelfleet_agent.clock import monotonic_us
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.files import OpenFile, open_all, proving
from modelfleet_agent.runtime.providers import arrange
from modelfleet_agent.runtime.tensors import DATATYPES, Array, spec_of
from modelfleet_agent.store.record import Placed, PlacedFile, files_digest

WARM_RUNS = 3
QUICK_MS = 0.5
LONG_MS = 4.0
SILENT = 4


class Session:
    """A loaded model; `run` may be called from several threads at once."""

    def __init__(self, placed: Placed, *, threads: int, hurried: bool = False) -> None:
        """Hash the files, then load them.

        What is fetched or made is hashed before it is first parsed, in a throw-away child.
        What was altered since is found here before it answers.

        Args:
            placed: What to load, by paths in the store.
            threads: Threads that one run may use.
            hurried: Hash on another processor while they are loaded.

        Raises:
            RetryableError: `E_MISSING`.
            RefusedError: `E_DIGEST`; `E_DERIVED`: the derived file was altered; `E_LOAD`:
                ONNX Runtime does not take it; `E_PROVIDER`.
        """
        self.record = placed.record
        self.derived = placed.derived
        self._golden = placed.golden
        self._files = open_all(placed.files)
        self._made: OpenFile | None = None
        self._made = _open_derived(placed, self._close_files)
        began = monotonic_us()
        try:
            with proving(self._files, beside=hurried):
                self._ort = self._load(placed, threads)
        except (RefusedError, RetryableError):
            self._close_files()
            raise
        self.load_ms = (monotonic_us() - began) / 1000
        self.warm_ms = 0.0
        self.inputs = [spec_of(node) for node in self._ort.get_inputs()]
        self.outputs = [spec_of(node) for node in self._ort.get_outputs()]
        self._check_tensors()

    @property
    def key(self) -> str:
        """`Record.key`."""
        return self.record.key

    @property
    def provider(self) -> str:
        """The execution provider that computes."""
        return str(self._ort.get_providers()[0])

    @property
    def quick(self) -> bool:
        """A run is so short that handing it to a thread would cost more."""
        return 0 < self.warm_ms < QUICK_MS

    def run(
        self,
        feeds: Mapping[str, Array],
        outputs: Sequence[str],
        options: Any = None,  # noqa: ANN401 - onnxruntime has no types
    ) -> list[Array]:
        """Run the model once, with `RunOptions` where it may have to be ended.

        Raises:
            Exception: Whatever ONNX Runtime raises.
        """
        answers: list[Array] = self._ort.run(list(outputs), dict(feeds), options)
        return answers

    def warm(self) -> float:
        """Run on the golden inputs, where there are some, and return the last run's ms.

        Raises:
            RefusedError: `E_WARM`: a run failed; `E_DIGEST`: altered golden inputs.
        """
        if self._golden is None:
            return 0.0
        feeds = read_golden_inputs(self._golden)
        names = [spec.name for spec in self.outputs]
        spent_ms = 0.0
        try:
            for _ in range(WARM_RUNS):
                began = monotonic_us()
                self.run(feeds, names)
                self.warm_ms = (monotonic_us() - began) / 1000
                spent_ms += self.warm_ms
                if spent_ms > LONG_MS:
                    break  # it is known to be slow: the slot waits for no further run
        except Exception as error:
            what = f"it fails on its golden inputs: {brief(error)}"
            raise RefusedError("E_WARM", what) from error
        return self.warm_ms

    def digests(self) -> tuple[str, str]:
        """Return `(mapped, on disk)` digests, read now; "" where a file is gone."""
        names = [entry.name for entry in self.record.files]
        pairs = [file.digests() for file in self._files]
        disk = [there for _, there in pairs]
        if self._made and self._made.digests() != (self._made.digest, self._made.digest):
            disk = [""]  # what a boot would load is not what was made
        mapped = files_digest(zip(names, (held for held, _ in pairs), strict=True))
        return mapped, files_digest(zip(names, disk, strict=True)) if all(disk) else ""

    def _load(self, placed: Placed, threads: int) -> Any:  # noqa: ANN401 - ort has no types
        used = arrange(
            self.record.providers, threads=threads, derived=self.derived is not None
        )
        graph = (self.derived or placed.files[0]).path
        options = _options(threads, made=self.derived is not None)
        try:
            return ort.InferenceSession(graph, options, providers=used)
        except Exception as error:  # it also raises ValueError, UnicodeDecodeError
            what = f"ONNX Runtime does not load it: {brief(error)}"
            raise RefusedError("E_LOAD", what) from error

    def close(self) -> None:
        """Destroy the session: tens of milliseconds, so never on the request path."""
        del self._ort
        self._close_files()

    def _check_tensors(self) -> None:
        odd = [s.name for s in (*self.inputs, *self.outputs) if s.datatype not in DATATYPES]
        if odd or not self.outputs:
            self.close()
            what = (
                f"inputs and outputs must be tensors; {odd} are not" if odd else "no output"
            )
            raise RefusedError("E_LOAD", what)

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
        if self._made:
            self._made.close()


def brief(error: BaseException) -> str:
    """Return what ONNX Runtime complains of, in one line of at most 300 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def read_golden(file: PlacedFile) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return golden inputs and outputs by tensor name: arrays `in.<name>`, `out.<name>`.

    Raises:
        RetryableError: `E_MISSING`.
        RefusedError: `E_DIGEST`; `E_GOLDEN`: not such an archive.
    """
    with _golden(file) as archive:
        return _arrays(archive, "in."), _arrays(archive, "out.")


def read_golden_inputs(file: PlacedFile) -> dict[str, Array]:
    """Return golden inputs only: each array is read with the interpreter held.

    Raises:
        RetryableError: `E_MISSING`.
        RefusedError: As `read_golden`.
    """
    with _golden(file) as archive:
        return _arrays(archive, "in.")


@contextlib.contextmanager
def _golden(file: PlacedFile) -> Iterator[Mapping[str, Array]]:
    with contextlib.closing(OpenFile(file)) as proven:
        try:
            with (
                open(proven.fd, "rb", closefd=False) as bytes_,
                NpzFile(bytes_, allow_pickle=False) as archive,
            ):
                yield archive
        except (BadZipFile, zlib.error, ValueError, OSError, KeyError, EOFError) as error:
            what = f"golden inputs {file.path} cannot be read: {error}"
            raise RefusedError("E_GOLDEN", what) from error


def _arrays(archive: Mapping[str, Array], kind: str) -> dict[str, Array]:
    arrays = {n.removeprefix(kind): archive[n] for n in archive if n.startswith(kind)}
    if not arrays:
        raise RefusedError("E_GOLDEN", f"the golden inputs have no array {kind}<name>")
    return arrays


def _open_derived(placed: Placed, undo: Callable[[], None]) -> OpenFile | None:
    try:
        return OpenFile(placed.derived) if placed.derived else None
    except (RefusedError, RetryableError) as error:
        undo()
        raise RefusedError("E_DERIVED", f"the derived file: {error.what}") from error


def _options(threads: int, *, made: bool) -> Any:  # noqa: ANN401 - onnxruntime has no types
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT
    if made:  # it was optimised when it was made
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # spinning threads would burn the cores that the old session answers with
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
