"""What documents hold: releases, limits of deployments, reports, telemetry."""

import json
from typing import Any

import msgspec
import pytest

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.deployment import SlotSteps, check_limits
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import (
    read,
    write,
)
from modelfleet_manifests.errors import (
    AddressError,
    FormatError,
    LimitError,
    SignatureError,
)
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import (
    Release,
    files_digest,
    read_release,
    release_ref,
    write_release,
)
from modelfleet_manifests.report import (
    FIRST,
    LATENCY_BOUNDS_US,
    Metadata,
    Report,
    SlotReport,
    SlotTelemetry,
    Telemetry,
    open_report,
    open_telemetry,
    seal_report,
)
from tests.support.documents import (
    DEVICE,
    ENROLMENT,
    FLEET,
    hex_of,
    release_of,
    step_of,
)

KEYS = [PrivateKey(bytes([number]) * 32) for number in range(1, 6)]


def test_a_release_round_trips_and_its_bytes_name_it() -> None:
    release = release_of("1.1.0", rollback_to=["1.0.0"], profiles=("generic", "arm64"))
    data = write_release(release)
    assert read_release(data) == release
    assert release_ref(release).id == sha256(data)


def test_two_variants_of_one_name_are_refused() -> None:
    release = release_of("1.0.0")
    twice = msgspec.structs.replace(release, variants=release.variants * 2)
    with pytest.raises(FormatError):
        write_release(twice)
    with pytest.raises(FormatError):
        read_release(write(twice))


@pytest.mark.parametrize("version", ["1.0", "01.0.0", "1.0.0+build", "v1.0.0", ""])
def test_a_release_with_a_version_that_is_not_semantic_is_refused(version: str) -> None:
    value = json.loads(write(release_of("1.0.0")))
    value["version"] = version
    with pytest.raises(FormatError):
        read(canonical(value), Release, "release", cap=100_000)


def test_one_file_names_its_variant_and_several_name_it_together() -> None:
    one, two = ("a", hex_of(1)), ("b", hex_of(2))
    assert files_digest([one]) == hex_of(1)
    text = f"{hex_of(1)}  a\n{hex_of(2)}  b\n"
    assert files_digest([two, one]) == sha256(text.encode())


def test_what_does_not_fit_is_refused_and_names_the_slot_to_move() -> None:
    steps = [step_of(release_of("1.0.0"), number) for number in range(8)]
    slots = {f"slot-{number}": SlotSteps(steps=steps) for number in range(4)}
    check_limits(slots, "plant-b")
    with pytest.raises(LimitError, match="slot-0"):
        check_limits({**slots, "slot-4": SlotSteps(steps=steps[:1])}, "plant-b")


def report_of(**changes: Any) -> Report:
    slot = SlotReport(
        phase="idle", action="keep", reason="as-wanted", detail="", begun=[],
        failures=0, bytes=0, method="none",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "fleet": FLEET, "device": DEVICE, "enrolment": ENROLMENT, "incarnation": 1,
        "seq": 1, "prev": FIRST, "boot": hex_of(1, 32), "at": 5, "nonce": hex_of(2, 32),
        "documents": {}, "slots": {"detector": slot},
        "metadata": Metadata(root=1, timestamp=1, snapshot=1, targets=1),
        "facts": {"arch": "x86_64", "cpu": ["avx2"], "declared": False}, "errors": [],
    }  # fmt: skip
    return Report(**{**fields, **changes})


def test_a_report_round_trips_under_the_devices_key() -> None:
    envelope = seal_report(report_of(), KEYS[0])
    assert open_report(envelope, DEVICE, [KEYS[0].public]) == report_of()


def test_a_report_is_refused_by_another_key_or_on_another_devices_topic() -> None:
    envelope = seal_report(report_of(), KEYS[0])
    with pytest.raises(SignatureError):
        open_report(envelope, DEVICE, [KEYS[1].public])
    with pytest.raises(AddressError):
        open_report(envelope, "cam-2", [KEYS[0].public])


def test_telemetry_round_trips_and_needs_all_its_buckets() -> None:
    counts = SlotTelemetry(
        release=hex_of(1), requests=3, errors=0, latency_us=900,
        buckets=[0] * (len(LATENCY_BOUNDS_US) + 1), labelled=2, hits=1,
    )  # fmt: skip
    batch = Telemetry(
        fleet=FLEET, device=DEVICE, enrolment=ENROLMENT, incarnation=1, seq=1, since=1,
        until=2, memory_kb=50_000, slots={"detector": [counts]},
    )  # fmt: skip
    envelope = seal_report(batch, KEYS[0])
    assert open_telemetry(envelope, DEVICE, [KEYS[0].public]) == batch
    short = msgspec.structs.replace(counts, buckets=[0])
    broken = msgspec.structs.replace(batch, slots={"detector": [short]})
    with pytest.raises(FormatError):
        open_telemetry(seal_report(broken, KEYS[0]), DEVICE, [KEYS[0].public])
