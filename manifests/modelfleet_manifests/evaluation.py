"""Evaluations on reference devices: what the director asks, and what a device answers.

A reference device fetches a candidate and an evaluation set, lets the candidate answer the
samples in a limited child, and signs what came out: the digest of the answers and what they
cost. How good the answers are is judged by whoever has the master and the metric, so that
a device needs neither.
"""

from collections.abc import Collection
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from modelfleet_manifests.document import Body, NotUnderstood, cap_of, read, write
from modelfleet_manifests.document import read_directed as read_from_director
from modelfleet_manifests.envelope import seal, unseal
from modelfleet_manifests.errors import AddressError, FormatError
from modelfleet_manifests.header import Counter, DeviceId, Header, Hex32, Hex64
from modelfleet_manifests.keys import PrivateKey, PublicKey
from modelfleet_manifests.release import File, Text, files_digest

KIND = "evaluation"
RESULT = "evaluation-result"
REFERENCE = {"role": "reference"}
"""The label of devices that evaluate candidates."""
MAX_ANSWERS = 64 << 20
"""Bytes of the answers to one evaluation."""

Percentile = Annotated[int, Meta(ge=0)]


class Allowance(Body, kw_only=True, frozen=True):
    """What an evaluation may use on the device.

    Attributes:
        memory_mb: Address space of the child, MiB.
        wall_s: Seconds from its start to its answer.
        samples: So many of the set are answered, from its beginning.
        threads: Of the session.
    """

    memory_mb: Annotated[int, Meta(ge=64, le=1 << 20)]
    wall_s: Annotated[int, Meta(ge=1, le=86_400)]
    samples: Annotated[int, Meta(ge=1, le=100_000)]
    threads: Annotated[int, Meta(ge=1, le=64)] = 1


class Evaluation(Body, kw_only=True, frozen=True):
    """The document. It travels by HTTP, to one device, which asks for it.

    Attributes:
        job: Names this evaluation; the result says it again.
        model: Whose candidate it is.
        candidate: First the graph, then its external data.
        samples: The evaluation set, an npz with one array per input.
        allowance: What it may use.
    """

    header: Header
    job: Hex32
    model: Text
    candidate: Annotated[list[File], Meta(min_length=1, max_length=16)]
    samples: File
    allowance: Allowance

    @property
    def digest(self) -> str:
        """Names the candidate, see `release.files_digest`."""
        return files_digest((file.name, file.digest) for file in self.candidate)


class Latency(Body, kw_only=True, frozen=True):
    """Percentiles of one run's time, microseconds."""

    p50: Percentile
    p90: Percentile
    p99: Percentile


class Measured(Body, kw_only=True, frozen=True):
    """What an evaluation took.

    Attributes:
        answers: SHA-256 of the answers, an npy of the first output.
        length: Bytes of the answers.
        samples: That were answered.
        batch: Samples in one run.
        latency_us: Of one run.
        load_ms: From the file to a session.
        memory_kb: Most resident memory of the child.
        energy_mj: Energy of the processor during the runs, where the device can read it.
    """

    answers: Hex64
    length: Annotated[int, Meta(ge=0, le=MAX_ANSWERS)]
    samples: Annotated[int, Meta(ge=1)]
    batch: Annotated[int, Meta(ge=1)]
    latency_us: Latency
    load_ms: Counter
    memory_kb: Counter
    energy_mj: Counter | UnsetType = UNSET


class EvaluationResult(Body, kw_only=True, frozen=True):
    """What a device says of one evaluation; signed with the key of its reports.

    Attributes:
        job: Of the document.
        candidate: What it ran, see `Evaluation.digest`.
        samples: SHA-256 of the set that it ran it on.
        code: `E_…` where it could not be run, else "".
        reason: Why not, in words.
        measured: What came out; absent where it could not be run.
        runtime: Such as `onnxruntime 1.32.0`.
        provider: The execution provider that computed.
        cpu: Features that decide which kernels compute.
    """

    type: Annotated[str, Meta(pattern="^evaluation-result$")] = RESULT
    v: Annotated[int, Meta(ge=0, le=0)] = 0
    fleet: Hex64
    device: DeviceId
    enrolment: Hex32
    job: Hex32
    candidate: Hex64
    samples: Hex64
    code: Annotated[str, Meta(pattern="^(E_[A-Z_]{1,40})?$")]
    reason: Text
    measured: Measured | UnsetType = UNSET
    runtime: Text
    provider: Text
    cpu: Annotated[list[Text], Meta(max_length=64)]


def open_evaluation(
    envelope: bytes, keys: Collection[PublicKey]
) -> Evaluation | NotUnderstood:
    """Return the evaluation that the director signed, or what of it is not understood.

    Who it is for and whether it has expired is for `header.check_address` and the caller.

    Raises:
        SizeError, FormatError: It is no evaluation.
        SignatureError: None of `keys` signed it.
    """
    payload = unseal(envelope, KIND, keys, cap=cap_of(KIND))
    return read_from_director(payload, Evaluation, KIND)


def seal_result(result: EvaluationResult, key: PrivateKey) -> bytes:
    """Return the signed result.

    Raises:
        FormatError: A value is out of range, or it neither measured nor failed.
    """
    payload = write(result)
    _check(read(payload, EvaluationResult, RESULT, cap=cap_of(RESULT)))
    return seal(RESULT, payload, [key])


def open_result(
    envelope: bytes, device: str, keys: Collection[PublicKey]
) -> EvaluationResult:
    """Return the verified result of `device`.

    Raises:
        SizeError, FormatError: It is no result.
        SignatureError: Not signed by one of `keys`.
        AddressError: It speaks of another device.
    """
    payload = unseal(envelope, RESULT, keys, cap=cap_of(RESULT))
    result = read(payload, EvaluationResult, RESULT, cap=cap_of(RESULT))
    _check(result)
    if result.device != device:
        raise AddressError(f"result of {result.device}", f"came from {device}")
    return result


def _check(result: EvaluationResult) -> None:
    if (result.measured is UNSET) != bool(result.code):
        raise FormatError(RESULT, "has either what was measured or a code")
