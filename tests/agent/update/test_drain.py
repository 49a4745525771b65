"""A release that does not fit beside what runs: said beforehand, drained, loaded."""

import dataclasses
from pathlib import Path

from tests.agent import models
from tests.agent.update.conftest import Bench, goal, offer

from modelfleet_agent.runtime.memory import available_bytes, needed_bytes


def cramped(bench: Bench, room: int) -> None:
    """Let the engine see so many bytes of free memory."""
    bench.tools = dataclasses.replace(bench.tools, memory=lambda: room)
    bench.open()


def codes(bench: Bench) -> list[str]:
    return [one.code for one in bench.notices]


def test_what_fits_is_loaded_beside_what_runs(bench: Bench) -> None:
    cramped(bench, 1 << 40)
    bench.have(offer(bench.files, "1.0.0", models.linear(1.0)))
    two = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.bring(goal(two))
    assert bench.serves() == two.digest
    assert codes(bench) == []


def test_what_does_not_fit_waits_until_what_runs_is_unloaded(bench: Bench) -> None:
    cramped(bench, 0)
    bench.have(offer(bench.files, "1.0.0", models.linear(1.0)))
    two = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.bring(goal(two))
    assert bench.serves() == two.digest
    assert codes(bench) == ["E_DRAINS"]


def test_one_that_fails_after_the_drain_gives_way_to_what_ran(bench: Bench) -> None:
    cramped(bench, 0)
    one = offer(bench.files, "1.0.0", models.linear(1.0))
    bench.have(one)
    bad = offer(bench.files, "1.1.0", b"no model", models.golden(models.linear(1.0)))
    for file in bad.wanted:
        models.put(bench.store, file.name, bench.files.blobs[file.digest])
    proven = bench.engine.memory.state.prove(
        bad.release
    )  # no self-test: it fails in service
    bench.engine.memory.save(proven)
    bench.bring(goal(bad))
    assert "E_DRAINS" in codes(bench)
    assert bench.serves() == one.digest


def test_the_first_release_of_a_slot_has_nothing_to_fit_beside(bench: Bench) -> None:
    cramped(bench, 0)
    bench.bring(goal(offer(bench.files, "1.0.0", models.linear(1.0))))
    assert codes(bench) == []


def test_memory_is_the_machines_or_the_control_groups(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    assert available_bytes(tmp_path) == 1_024_000
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/agent.service\n")
    group = tmp_path / "sys/fs/cgroup/system.slice/agent.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("400000\n")
    assert available_bytes(tmp_path) == 1_024_000
    (group / "memory.max").write_text("500000\n")
    assert available_bytes(tmp_path) == 100_000
    assert available_bytes(tmp_path / "nothing") > 1 << 60


def test_what_a_model_needs_is_measured_or_guessed_from_its_weights(bench: Bench) -> None:
    record = offer(bench.files, "1.0.0", models.linear(1.0))
    weights = record.files[0].length
    assert needed_bytes(record) >= 2 * weights
    assert needed_bytes(record, measured_kib=1 << 20) > 900 << 20
