"""Evaluations and their results: what one side signs, the other reads, and nothing else."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from modelfleet_manifests.document import NotUnderstood, write
from modelfleet_manifests.envelope import seal
from modelfleet_manifests.errors import (
    AddressError,
    FormatError,
    ManifestError,
    SignatureError,
)
from modelfleet_manifests.evaluation import (
    KIND,
    EvaluationResult,
    Latency,
    Measured,
    open_evaluation,
    open_result,
    seal_result,
)
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import files_digest
from tests.support.documents import DEVICE, ENROLMENT, FLEET, evaluation_of, hex_of

DIRECTOR = PrivateKey(b"\x01" * 32)
OWN = PrivateKey(b"\x02" * 32)
MEASURED = Measured(
    answers=hex_of(1),
    length=4128,
    samples=100,
    batch=1,
    latency_us=Latency(p50=900, p90=1100, p99=2500),
    load_ms=12,
    memory_kb=60_000,
)


def result_of(**changes: object) -> EvaluationResult:
    task = evaluation_of()
    result = EvaluationResult(
        fleet=FLEET,
        device=DEVICE,
        enrolment=ENROLMENT,
        job=task.job,
        candidate=task.digest,
        samples=task.samples.digest,
        code="",
        reason="",
        measured=MEASURED,
        runtime="onnxruntime 1.32.0",
        provider="CPUExecutionProvider",
        cpu=["asimd", "asimddp"],
    )
    return msgspec.structs.replace(result, **changes)


def test_what_the_director_signed_is_read() -> None:
    task = evaluation_of()
    read = open_evaluation(seal(KIND, write(task), [DIRECTOR]), [DIRECTOR.public])
    assert read == task
    pairs = [(file.name, file.digest) for file in task.candidate]
    assert task.digest == files_digest(pairs)


def test_what_another_signed_is_refused() -> None:
    with pytest.raises(SignatureError):
        open_evaluation(seal(KIND, write(evaluation_of()), [OWN]), [DIRECTOR.public])


def test_a_newer_document_is_not_understood_and_not_ignored() -> None:
    newer = seal(KIND, write(evaluation_of(needs=["energy"])), [DIRECTOR])
    read = open_evaluation(newer, [DIRECTOR.public])
    assert isinstance(read, NotUnderstood)
    assert read.feature == "energy"


@pytest.mark.parametrize("energy", [UNSET, 0, 81_000])
def test_a_result_round_trips(energy: int | msgspec.UnsetType) -> None:
    measured = msgspec.structs.replace(MEASURED, energy_mj=energy)
    result = result_of(measured=measured)
    assert open_result(seal_result(result, OWN), DEVICE, [OWN.public]) == result


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "E_CRASH"},  # failed, and measured
        {"measured": UNSET},  # neither
        {"code": "crashed", "measured": UNSET},
        {"reason": "x" * 201},
        {"candidate": "none"},
    ],
)
def test_a_result_that_says_nonsense_is_not_signed(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        seal_result(result_of(**changes), OWN)


def test_a_result_of_another_device_or_key_is_refused() -> None:
    envelope = seal_result(result_of(), OWN)
    with pytest.raises(AddressError):
        open_result(envelope, "cam-9", [OWN.public])
    with pytest.raises(SignatureError):
        open_result(envelope, DEVICE, [DIRECTOR.public])


@given(st.data())
def test_any_changed_byte_of_a_result_is_refused(data: st.DataObject) -> None:
    envelope = bytearray(seal_result(result_of(), OWN))
    place = data.draw(st.integers(0, len(envelope) - 1))
    envelope[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ManifestError):
        open_result(bytes(envelope), DEVICE, [OWN.public])
