"""What supervisor and runtime child say to each other: one JSON object per line.

A request carries `id`; its answer carries the same. The child also sends one `Ready`
unasked, when its endpoint listens.
"""

from pathlib import Path

import msgspec

from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store.record import Placed

# As `modelfleet_manifests.report.LATENCY_BOUNDS_US`, which would bring PyNaCl along.
BOUNDS_US = (
    50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 20_000,
    50_000, 100_000, 250_000, 1_000_000, 5_000_000,
)  # fmt: skip


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The child listens.

    Attributes:
        pid: Process id of the child.
        port: Loopback TCP port, or None.
        socket: Path of the Unix socket, or None.
        runtime: `onnxruntime <version>`.
    """

    pid: int
    port: int | None
    socket: str | None
    runtime: str


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A session is resident, warm and not yet active.

    Attributes:
        key: `Record.key`.
        digest: Digest of the files, read again just before the load.
        load_ms: Time to open the session; 0 where it was resident already.
        warm_ms: Time of the last warm run on the golden inputs.
        resident: It was resident already: nothing was loaded.
        memory_kib: What the child's resident memory grew by.
    """

    key: str
    digest: str
    load_ms: float
    warm_ms: float
    resident: bool
    memory_kib: int


class Activated(msgspec.Struct, frozen=True, kw_only=True):
    """The pointer of a slot has moved.

    Attributes:
        key: What is active now.
        previous: What stays resident beside it.
        move_us: How long requests could have waited for the move.
    """

    key: str
    previous: str | None
    move_us: float


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Files of the active session, read again now.

    Attributes:
        key: The active session.
        digest: Digest of what lies under the paths now: what a boot would load. Empty
            where a file is missing or unreadable.
        mapped: Digest of the files that the session holds open.
        intact: Both are what the record demands.
    """

    key: str
    digest: str
    mapped: str
    intact: bool


class ReleaseStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one release in one slot since the child started; they only grow.

    Attributes:
        slot: Slot name.
        key: `Record.key`.
        release: Release id.
        digest: Variant digest.
        version: Semantic version.
        active: It answers the slot's requests now.
        requests: Answered requests, failed ones included.
        errors: Requests that the model failed on.
        latency: Requests per bucket of `BOUNDS_US`, and one more for slower ones.
        latency_sum_us: Sum of all latencies in µs.
        labelled: Answers that got a label.
        hits: Labelled answers whose class was the label.
        errors_us: The failed requests' part of `latency_sum_us`.
        run_sum_us: Time spent in the model for the others.
        last_ms: When the last one was answered, Unix ms; 0 before the first.
    """

    slot: str
    key: str
    release: str
    digest: str
    version: str
    active: bool
    requests: int
    errors: int
    latency: list[int]
    latency_sum_us: int
    labelled: int
    hits: int
    errors_us: int = 0
    run_sum_us: int = 0
    last_ms: int = 0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of the whole child.

    Attributes:
        boot: Random word of this child process: counters restart where it changes.
        rss_kib: Resident memory.
        rejected: Requests answered 503 because the queue was full.
        releases: Per slot and release.
    """

    boot: str
    rss_kib: int
    rejected: int
    releases: list[ReleaseStatistics]


class Load(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """Load `placed` beside what runs in `slot`."""

    slot: str
    placed: Placed
    threads: int


class Activate(msgspec.Struct, frozen=True, kw_only=True, tag="activate"):
    """Point `slot` at the loaded session `key`."""

    slot: str
    key: str


class Restore(msgspec.Struct, frozen=True, kw_only=True, tag="restore"):
    """Point `slot` at its resident previous session."""

    slot: str


class Discard(msgspec.Struct, frozen=True, kw_only=True, tag="discard"):
    """Drop the loaded session `key` of `slot`, unless it is active."""

    slot: str
    key: str


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag="unload"):
    """Drop everything of `slot`; its requests are answered 404, with `drains` 503."""

    slot: str
    drains: bool = False


class Verify(msgspec.Struct, frozen=True, kw_only=True, tag="verify"):
    """Hash the files of the active session of `slot`."""

    slot: str


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="statistics"):
    """Ask for the counters."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Finish requests in flight and exit 0."""


Order = Load | Activate | Restore | Discard | Unload | Verify | Ask | Stop


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One order with the number that its answer repeats."""

    id: int
    order: Order


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an order was not carried out.

    Attributes:
        code: `E_…`.
        what: One sentence.
        refused: The release is bad (`RefusedError`); otherwise the world was in the way.
    """

    code: str
    what: str
    refused: bool


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to request `id`: a result or a failure."""

    id: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


def encode_settings(settings: RuntimeSettings) -> str:
    """Return the settings as one argument of the child's command line."""
    return msgspec.json.encode(settings, enc_hook=str).decode()


def decode_settings(text: str) -> RuntimeSettings:
    """Return what `encode_settings` wrote."""
    return msgspec.json.decode(text, type=RuntimeSettings, dec_hook=_path)


def _path(kind: type, value: object) -> object:
    if kind is not Path:
        raise NotImplementedError(f"settings hold no {kind}")
    return Path(str(value))
