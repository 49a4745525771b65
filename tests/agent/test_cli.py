"""`modelfleet-agent`: what it says, and what its exit codes mean."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agent import models
from tests.agent.rig import SLOT, Rig
from tests.agent.test_supervisor import begin
from tests.support.waiting import eventually

from modelfleet_agent import cli
from modelfleet_agent.supervisor.status import (
    Endpoint,
    SlotStatus,
    Status,
    lock,
    write_status,
)


def status_of(*states: str) -> Status:
    slots = {
        f"slot-{number}": SlotStatus(
            state=state, phase="idle", action="keep", reason="as-wanted", detail=""
        )
        for number, state in enumerate(states)
    }
    return Status(
        device="dev-1",
        fleet="f" * 64,
        server="http://127.0.0.1:1",
        pid=1,
        at=1,
        connected=True,
        endpoint=Endpoint(),
        slots=slots,
    )


def test_a_device_that_is_not_enrolled_says_so_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("status", "run"):
        assert cli.main([command, "--dir", str(tmp_path)]) == cli.NOT_ENROLLED
        assert "E_NOT_ENROLLED" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


CODES = [
    (["ok"], cli.OK),
    (["ok", "ok"], cli.OK),
    (["ok", "updating"], cli.WAITS),
    (["waiting"], cli.WAITS),
    (["empty"], cli.WAITS),
    ([], cli.WAITS),
    (["ok", "failed", "updating"], cli.FAILED),
]


def test_the_exit_code_says_how_the_slots_are(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    for states, code in CODES:
        write_status(rig.dir, status_of(*states))
        assert cli.main(["status", "--dir", str(rig.dir)]) == cli.NOT_RUNNING
        held = lock(rig.dir)
        assert cli.main(["status", "--dir", str(rig.dir)]) == code
        capsys.readouterr()
        assert cli.main(["status", "--dir", str(rig.dir), "--json"]) == code
        told = json.loads(capsys.readouterr().out)
        assert told["exit"] == code
        assert sorted(one["state"] for one in told["slots"].values()) == sorted(states)
        held.close()


def test_status_shows_what_runs_and_why_and_where_to_ask(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> int:
        capsys.readouterr()
        return cli.main(["status", "--dir", str(rig.dir)])

    old = begin(rig)
    eventually(lambda: status() == cli.OK, "it is fine")
    told = capsys.readouterr().out
    assert f"{SLOT}: ok: runs demo/linear 1.0.0 (any-fp32)" in told
    assert old.variants[0].digest in told
    port = json.loads((rig.dir / "endpoint.json").read_text())["http_port"]
    assert f"http://127.0.0.1:{port}/v2" in told
    wrong = models.golden(models.linear(99.0))
    bad = rig.release("1.1.0", models.linear(2.0), golden=wrong)
    rig.fleet.publish()
    rig.deploy(bad, old)
    eventually(lambda: status() == cli.FAILED, "it failed")
    assert "quarantined: E_SELF_TEST" in capsys.readouterr().out
    assert cli.main(["run", "--dir", str(rig.dir)]) == cli.ERROR
    assert "E_RUNNING" in capsys.readouterr().err
    assert rig.stop() == 0
    assert status() == cli.NOT_RUNNING


def test_a_claim_token_that_is_not_known_enrols_nothing(rig: Rig, tmp_path: Path) -> None:
    before = rig.me
    arguments = ["enrol", "--server", rig.server.url, "--token", "no such claim"]
    done = rig.command(*arguments, "--force")
    assert done.returncode == cli.ERROR
    assert "claim" in done.stderr
    assert rig.me == before


@pytest.mark.parametrize("text", ["", "[1]", '{"arch": 3}', '{"wings": 2}'])
def test_bad_declared_facts_are_refused_before_anything_is_sent(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, directory = tmp_path / "facts.json", tmp_path / "agent"
    path.write_text(text)
    code = cli.main(
        [
            *("enrol", "--server", "http://127.0.0.1:9", "--token", "x"),
            *("--declare", str(path), "--dir", str(directory)),
        ]
    )
    assert code == cli.ERROR
    assert "E_FACTS" in capsys.readouterr().err
    assert not directory.exists() or list(directory.iterdir()) == []


def test_declared_facts_travel_in_every_report(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({"arch": "aarch64", "cpu": ["asimddp"]}))
    rig.enrol("--declare", str(path), "--force")
    rig.start()
    eventually(lambda: rig.reports, "a report", 30)
    assert {one.facts["arch"] for one in rig.reports} == {"aarch64"}
    assert {one.facts["declared"] for one in rig.reports} == {True}


def test_the_command_line_starts_fast_since_it_loads_what_it_needs_only() -> None:
    code = "import sys, modelfleet_agent.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"paho", "nacl", "msgspec", "http.client", "ssl", "numpy"}
    assert heavy.isdisjoint(done.stdout.split())
