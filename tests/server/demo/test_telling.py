"""What the demonstration says and measures."""

from modelfleet_manifests.profiles import matching_profiles, read_facts
from modelfleet_server.demo.fleet import CAST
from modelfleet_server.demo.measured import DeviceFigures, GateFigures, Measured
from modelfleet_server.demo.story import DECLARED, bytes_row, gate_row, request_row
from modelfleet_server.demo.telling import kilobytes, points, seconds

HERE = DeviceFigures(
    "local-north", "x86-vnni", declared=False, variant="x86-vnni-fp32",
    full_bytes=327_692, zstd_bytes=303_080, update_bytes=167_493, method="delta",
    requests=900, p50_ms=2.31, p99_ms=18.2,
)  # fmt: skip


def test_a_declared_device_never_shows_a_latency() -> None:
    declared = DeviceFigures("jetson-north", "jetson-orin-trt", declared=True, p50_ms=2.3)
    assert request_row(declared)[-1] == DECLARED == "runs on this CPU"
    assert request_row(HERE)[-1] == "2.3 / 18.2 ms"


def test_a_delta_is_compared_with_the_compressed_file() -> None:
    assert bytes_row(HERE)[2:] == ("327.7 kB", "303.1 kB", "167.5 kB", "1.8 x")


def test_a_gate_shows_drop_interval_and_sample() -> None:
    figures = GateFigures("1.2.0", "breach", 0.3072, 0.2467, 0.3676, 415, 3)
    what, said = gate_row(figures)
    assert what == "gate on 1.2.0"
    assert said == "breach: accuracy -30.7 points (-36.8 to -24.7), n=415"


def test_the_document_has_totals_over_all_devices() -> None:
    document = Measured(devices=[HERE, HERE]).document
    assert document["update_bytes"] == 2 * 167_493
    assert document["zstd_bytes"] == 2 * 303_080
    assert document["devices"][0]["device"] == "local-north"


def test_units_are_said_with_their_figures() -> None:
    assert kilobytes(5070) == "5.1 kB"
    assert (seconds(0.413), seconds(23.21)) == ("0.41 s", "23.2 s")
    assert (points(None), points(0.012)) == ("-", "-1.2")


def test_declared_facts_are_those_of_an_arm64_board_and_of_a_jetson() -> None:
    profiles = {
        part.kind: matching_profiles(read_facts(dict(part.declared)))[0]  # type: ignore[arg-type]
        for part in CAST
        if part.declared is not None
    }
    assert profiles == {"arm64": "arm64-dotprod", "jetson": "jetson-orin-trt"}
    assert len(CAST) == 6
    assert len([part for part in CAST if part.declared is None]) == 2
