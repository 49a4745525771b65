"""What a device says of itself: signed reports, chained and numbered, and telemetry."""

from collections.abc import Collection
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from modelfleet_manifests.assignment import MAX_SLOTS
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import Body, cap_of, read, write
from modelfleet_manifests.envelope import peek, seal, unseal
from modelfleet_manifests.errors import AddressError
from modelfleet_manifests.header import Counter, DeviceId, Hex32, Hex64, Millis
from modelfleet_manifests.keys import PrivateKey, PublicKey
from modelfleet_manifests.profiles import FactValue
from modelfleet_manifests.release import Name, Text, VersionText

FIRST = "0" * 64
# Facts are named as `profiles.Facts` names them, such as `memory_mb`.
FactName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
# Upper bounds of the latency buckets in microseconds; a last bucket holds what is above.
LATENCY_BOUNDS_US = (
    50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 20_000,
    50_000, 100_000, 250_000, 1_000_000, 5_000_000,
)  # fmt: skip


class Held(Body, kw_only=True, frozen=True):
    """A document that the device holds: its order and the digest of its payload."""

    epoch: Counter
    counter: Counter
    digest: Hex64


class Running(Body, kw_only=True, frozen=True):
    """What serves in a slot; `digest` is of the mapped file, re-read for the report."""

    release: Hex64
    model: Text
    version: VersionText
    variant: Name
    digest: Hex64
    intact: bool


class SlotReport(Body, kw_only=True, frozen=True):
    """One slot.

    Attributes:
        phase: Of the update, `idle` when nothing goes on.
        action: What the resolver wants: keep, install, remove or none.
        reason: The resolver's reason for it, or the reason of the last failure.
        detail: In words, for a person in front of the device.
        step: The step that is acted on, absent where none decides.
        wanted: The release that is wanted, absent where nothing is.
        begun: Steps that this device has begun.
        running: What serves; absent where nothing does.
        failures: How often the wanted release failed here and was put back.
        bytes: Bytes fetched for the last update of the slot.
        method: How they came: `full`, `delta`, or `none` before the first.
    """

    phase: Name
    action: Name
    reason: Name
    detail: Text
    step: Hex32 | UnsetType = UNSET
    wanted: Hex64 | UnsetType = UNSET
    begun: Annotated[list[Hex32], Meta(max_length=64)]
    running: Running | UnsetType = UNSET
    failures: Counter
    bytes: Counter
    method: Name


class Metadata(Body, kw_only=True, frozen=True):
    """Versions of the trust metadata that the device has seen."""

    root: Counter
    timestamp: Counter
    snapshot: Counter
    targets: Counter


class Report(Body, kw_only=True, frozen=True):
    """A report. `prev` is the digest of the payload before it, zeros at first.

    Attributes:
        boot: Random id of this run of the agent.
        at: The device's own clock, Unix ms: a hint, never evidence.
        nonce: Of the assignment that is held; zeros before the first.
        documents: By topic.
        errors: Codes of documents and metadata refused since the last report.
        challenge: Of a device that lost what it held: an assignment has to repeat it.
    """

    type: Annotated[str, Meta(pattern="^report$")] = "report"
    v: Annotated[int, Meta(ge=0, le=0)] = 0
    fleet: Hex64
    device: DeviceId
    enrolment: Hex32
    incarnation: Counter
    seq: Counter
    prev: Hex64
    boot: Hex32
    at: Millis
    nonce: Hex32
    documents: Annotated[dict[str, Held], Meta(max_length=MAX_SLOTS + 1)]
    slots: Annotated[dict[Name, SlotReport], Meta(max_length=MAX_SLOTS)]
    metadata: Metadata
    facts: dict[FactName, FactValue]
    errors: Annotated[list[Text], Meta(max_length=32)]
    challenge: Hex32 | UnsetType = UNSET


class SlotTelemetry(Body, kw_only=True, frozen=True):
    """What one release did in one slot during a batch's time.

    Attributes:
        release: Which release answered.
        step: Under which step, absent where none governs.
        requests: Answered requests, failed ones included.
        errors: Failed requests that were the model's or the runtime's fault.
        latency_us: Sum of service times, microseconds.
        buckets: Requests per bucket of `LATENCY_BOUNDS_US`, one more for the rest.
        labelled: Answers whose true label came back.
        hits: Those that were right.
    """

    release: Hex64
    step: Hex32 | UnsetType = UNSET
    requests: Counter
    errors: Counter
    latency_us: Counter
    buckets: Annotated[
        list[Counter],
        Meta(min_length=len(LATENCY_BOUNDS_US) + 1, max_length=len(LATENCY_BOUNDS_US) + 1),
    ]
    labelled: Counter
    hits: Counter


class Telemetry(Body, kw_only=True, frozen=True):
    """A batch: what was counted between two moments of the device's clock (Unix ms)."""

    type: Annotated[str, Meta(pattern="^telemetry$")] = "telemetry"
    v: Annotated[int, Meta(ge=0, le=0)] = 0
    fleet: Hex64
    device: DeviceId
    enrolment: Hex32
    incarnation: Counter
    seq: Counter
    since: Millis
    until: Millis
    memory_kb: Counter
    slots: Annotated[dict[Name, list[SlotTelemetry]], Meta(max_length=MAX_SLOTS)]


def seal_report(report: Report | Telemetry, key: PrivateKey) -> bytes:
    """Return the signed envelope of a report or of a telemetry batch."""
    return seal(report.type, write(report), [key])


def payload_digest(envelope: bytes, kind: str) -> str:
    """Return the digest that the next report chains to."""
    return sha256(peek(envelope, kind, cap=cap_of(kind)))


def open_report(envelope: bytes, device: str, keys: Collection[PublicKey]) -> Report:
    """Return the verified report of `device`.

    Raises:
        SignatureError: Not signed by one of `keys`.
        AddressError: It speaks of another device.
        FormatError: It is not a report.
    """
    report = read(
        unseal(envelope, "report", keys, cap=cap_of("report")),
        Report,
        "report",
        cap=cap_of("report"),
    )
    _check_device(report.device, device, "report")
    return report


def open_telemetry(envelope: bytes, device: str, keys: Collection[PublicKey]) -> Telemetry:
    """Return the verified telemetry batch of `device`; raises as `open_report`."""
    batch = read(
        unseal(envelope, "telemetry", keys, cap=cap_of("telemetry")),
        Telemetry,
        "telemetry",
        cap=cap_of("telemetry"),
    )
    _check_device(batch.device, device, "telemetry")
    return batch


def _check_device(said: str, topic: str, kind: str) -> None:
    if said != topic:
        raise AddressError(f"{kind} of {said}", f"came by the topic of {topic}")
