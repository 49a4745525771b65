"""The whole agent: what it hears, runs and says."""

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agent import models
from tests.agent.rig import SLOT, Rig
from tests.support.waiting import eventually

from modelfleet_agent.enrol import load_report_key
from modelfleet_agent.supervisor.status import Status, read_status
from modelfleet_manifests import delta, topics
from modelfleet_manifests.assignment import ByRemove
from modelfleet_manifests.release import Release, release_ref
from modelfleet_manifests.report import (
    Running,
    SlotReport,
    SlotTelemetry,
    open_telemetry,
)


def test_a_release_is_installed_updated_by_delta_and_taken_back_without_a_download(
    rig: Rig,
) -> None:
    first, second = models.linear(1.0), models.linear(2.0)
    old = rig.release("1.0.0", first)
    rig.fleet.publish()
    rig.assign()
    rig.deploy(old)
    rig.start()
    row = rig.serves(old)
    assert (row.action, row.reason, row.method) == ("keep", "as-wanted", "full")
    assert running(row).variant == "any-fp32"
    assert rig.answer()[1]["outputs"][0]["shape"] == [1, 3]
    new = rig.release("1.1.0", second)
    patch = delta.encode(first, second)
    digests = [one.variants[0].digest for one in (new, old)]
    rig.fleet.files.add_delta(digests[0], digests[1], patch)
    rig.fleet.publish()
    [step, _] = rig.deploy(new, old)
    row = rig.serves(new)
    assert step.id in row.begun
    assert row.method == "delta"
    assert rig.answer()[0] == 200
    since = len(rig.reports)
    rig.server.requests.clear()
    rig.deploy(old)
    rig.serves(old, since=since)
    assert [one.path for one in rig.server.requests] == []
    check_memory(rig)
    seqs = [one.seq for one in rig.reports]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert rig.stop() == 0


def begin(rig: Rig, *arguments: str) -> Release:
    """Have 1.0.0 serve."""
    old = rig.release("1.0.0", models.linear(1.0))
    rig.fleet.publish()
    rig.assign()
    rig.deploy(old)
    rig.start(*arguments)
    rig.serves(old)
    return old


def spoil(rig: Rig, release: Release, data: bytes | None = None) -> None:
    """Flip a bit of the active file, or write `data`, in place."""
    path = rig.dir / "store" / release.variants[0].digest
    path.chmod(0o600)
    if data is None:
        flipped = bytearray(path.read_bytes())
        flipped[-1] ^= 1
        data = bytes(flipped)
    path.write_bytes(data)


def rows_of(rig: Rig) -> list[SlotReport]:
    return [one.slots[SLOT] for one in rig.reports if SLOT in one.slots]


def running(row: SlotReport) -> Running:
    assert isinstance(row.running, Running)
    return row.running


def test_a_release_that_fails_its_self_test_is_reported_and_the_old_one_serves(
    rig: Rig,
) -> None:
    old = begin(rig)
    wrong = models.golden(models.linear(99.0))
    bad = rig.release("1.1.0", models.linear(2.0), golden=wrong)
    rig.fleet.publish()
    top, _ = rig.deploy(bad, old)
    row = rig.reported(lambda one: one.reason == "quarantined", "the failure")
    assert row.step == top.id
    assert row.wanted == release_ref(bad).id
    assert row.failures == 1
    assert top.id not in row.begun
    assert running(row).digest == old.variants[0].digest
    assert rig.answer()[0] == 200
    rig.kill()  # the quarantine outlives the agent
    rig.start()
    row = rig.reported(lambda one: one.running, "serves again")
    assert (row.reason, row.failures) == ("quarantined", 1)


def test_a_device_without_a_network_serves_after_a_power_cut(rig: Rig) -> None:
    old = begin(rig)
    rig.kill()
    path = rig.dir / "enrolment.json"
    me = json.loads(path.read_text())
    nowhere = {"server": "http://127.0.0.1:9", "mqtt_port": 9}
    path.write_text(json.dumps(me | nowhere))
    rig.start()
    eventually(lambda: answers(rig), "it serves", 30)
    pid = rig.process.pid if rig.process else 0

    def decided() -> Status | None:
        found = read_status(rig.dir)
        mine = found is not None and found.pid == pid and SLOT in found.slots
        return found if mine else None

    found = eventually(decided, "its status", 30)
    assert found is not None
    assert not found.connected
    assert found.slots[SLOT].digest == old.variants[0].digest
    assert found.slots[SLOT].reason == "as-wanted"


def answers(rig: Rig) -> bool:
    try:
        return rig.answer()[0] == 200
    except OSError:
        return False  # not yet


def test_bit_rot_is_found_reported_and_repaired_while_it_runs(rig: Rig) -> None:
    old = begin(rig)
    spoil(rig, old)
    row = rig.reported(lambda one: one.reason == "bit-rot", "the damage")
    assert not running(row).intact
    assert running(row).digest != old.variants[0].digest
    since = len(rig.reports)
    rig.serves(old, since=since)
    assert rig.answer()[0] == 200


@pytest.mark.slow
def test_bit_rot_is_found_and_repaired_at_boot(rig: Rig) -> None:
    old = begin(rig)
    rig.kill()
    spoil(rig, old)
    rig.start()
    rig.serves(old)
    assert any("E_DIGEST" in text for one in rig.reports for text in one.errors)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only there it traps")
def test_rot_that_kills_the_runtime_is_repaired_and_not_held_against_the_release(
    rig: Rig,
) -> None:
    old = begin(rig)
    new = rig.release("1.1.0", models.trapping(1))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.serves(new)
    rig.kill()
    spoil(rig, new, models.trapping(-1))
    rig.start()
    since = len(rig.reports)
    rig.serves(new, since=since)
    assert rig.answer()[0] == 200
    assert not any(row.reason == "quarantined" for row in rows_of(rig))
    errors = [text for one in rig.reports for text in one.errors]
    assert any("E_DIGEST" in text for text in errors)


def test_a_revoked_release_is_not_installed_and_a_stopped_one_does_not_run_on(
    rig: Rig,
) -> None:
    old = begin(rig)
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.revoke(release_ref(new).id)
    rig.fleet.publish()
    _, below = rig.deploy(new, old)
    rig.reported(lambda one: one.running and one.step == below.id, "it keeps")
    status, _ = rig.answer()
    assert status == 200
    rig.fleet.stop(release_ref(old).id)
    since = len(rig.reports)
    rig.peer.publish(topics.RECALLS, rig.fleet.recalls(), retain=True)
    row = rig.reported(lambda one: not one.running, "it ends", since=since)
    assert row.reason in {"not-allowed", "recalled"}
    assert rig.answer()[0] == 404
    ran = [one.slots[SLOT].running for one in rig.reports if SLOT in one.slots]
    digests = {run.digest for run in ran if isinstance(run, Running)}
    assert digests == {old.variants[0].digest}
    rig.peer.publish(topics.RECALLS, b"", retain=True)


def test_an_assignment_of_another_device_is_refused_and_nothing_is_installed(
    rig: Rig,
) -> None:
    old = rig.release("1.0.0", models.linear(1.0))
    rig.fleet.publish()
    rig.deploy(old)
    rig.start()
    other = rig.fleet.assignment("somebody", "9" * 32, {SLOT: rig.group})
    rig.peer.publish(topics.device_topic(rig.device, "assignment"), other, retain=True)
    eventually(
        lambda: any("E_ADDRESS" in text for one in rig.reports for text in one.errors),
        "the refusal is reported",
        30,
    )
    assert not list((rig.dir / "store").iterdir())
    rig.assign()
    rig.serves(old)


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_release_and_is_reported(rig: Rig) -> None:
    old = begin(rig)
    assert rig.stop() == 0
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.start("--disk-reserve-mb", "1000000000")
    row = rig.reported(lambda one: one.reason == "no-space", "the full disk")
    assert running(row).digest == old.variants[0].digest
    assert rig.answer()[0] == 200
    assert rig.stop() == 0
    rig.start()
    rig.serves(new)


@pytest.mark.slow
def test_a_runtime_that_dies_comes_back_and_after_three_deaths_what_ran_before(
    rig: Rig,
) -> None:
    old = begin(rig)
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.serves(new)
    for _ in range(2):
        kill_runtime(rig)
        eventually(lambda: answers(rig), "it serves again", 30)
    kill_runtime(rig)
    row = rig.reported(lambda one: one.reason == "quarantined", "it gives up")
    since = len(rig.reports)
    row = rig.serves(old, since=max(since - 1, 0))
    assert "E_RUNTIME_DEATHS" in row.detail
    assert rig.answer()[0] == 200


def children_of(rig: Rig, module: bytes) -> list[int]:
    """Return the processes that run a module for the agent."""
    assert rig.process
    children = Path(f"/proc/{rig.process.pid}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    return [one for one in pids if module + b"\0" in command_of(one)]


def kill_runtime(rig: Rig) -> None:
    """End the runtime child with -9 and wait until it is gone."""
    [pid] = children_of(rig, b"agent.runtime")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: b"agent.runtime\0" not in command_of(pid), "it is dead")


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_what_is_asked_is_counted_and_a_removed_slot_serves_nothing(rig: Rig) -> None:
    old = begin(rig, "--telemetry-interval-s", "0.5")
    step = rig.reports[-1].slots[SLOT].step
    for _ in range(5):
        rig.answer()
    key = load_report_key(rig.dir).public
    topic = topics.device_topic(rig.device, "telemetry")

    def counted() -> list[SlotTelemetry]:
        batches = [open_telemetry(p, rig.device, [key]) for p in rig.peer.payloads(topic)]
        return [row for batch in batches for row in batch.slots.get(SLOT, [])]

    eventually(lambda: sum(row.requests for row in counted()) == 5, "five requests")
    assert {(row.release, row.step) for row in counted()} == {(release_ref(old).id, step)}
    assert sum(sum(row.buckets) for row in counted()) == 5
    me = rig.me
    acked = {"incarnation": me.incarnation, "seq": rig.reports[-1].seq}
    rig.peer.publish(topics.device_topic(me.device, "ack"), json.dumps(acked).encode())
    eventually(
        lambda: not list((rig.dir / "outbox").glob("*report*")), "nothing waits any more"
    )
    envelope = rig.fleet.assignment(me.device, me.enrolment, {SLOT: ByRemove()})
    rig.peer.publish(topics.device_topic(me.device, "assignment"), envelope, retain=True)
    rig.reported(lambda one: one.reason == "removed" and not one.running, "it is gone")
    assert rig.answer()[0] == 404
    assert not (rig.dir / "slots" / SLOT).exists()


def test_the_supervisor_loads_neither_numpy_nor_onnxruntime_nor_tuf() -> None:
    code = (
        "import sys, modelfleet_agent.cli, modelfleet_agent.supervisor.wiring\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert {"numpy", "onnxruntime", "tuf", "cryptography"}.isdisjoint(done.stdout.split())


def check_memory(rig: Rig) -> None:
    """Check that the running supervisor mapped no library of the children."""
    assert rig.process
    maps = Path(f"/proc/{rig.process.pid}/maps").read_text()
    assert "site-packages" in maps  # it shows what is loaded
    for library in ("numpy", "onnxruntime"):
        assert library not in maps
