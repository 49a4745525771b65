"""What a person at the device does: install, why, history, rollback, doctor."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from tests.agent import models
from tests.agent.rig import SLOT, Rig
from tests.agent.test_supervisor import begin, children_of, spoil
from tests.support.waiting import eventually

from modelfleet_agent import cli
from modelfleet_agent.supervisor.history import Code, read
from modelfleet_agent.trust.memory import believe
from modelfleet_manifests import topics
from modelfleet_manifests.release import release_ref


def test_history_tells_what_served_and_what_failed_and_outlives_a_power_cut(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    old = begin(rig)
    wrong = models.golden(models.linear(99.0))
    bad = rig.release("1.1.0", models.linear(2.0), golden=wrong)
    rig.fleet.publish()
    rig.deploy(bad, old)
    rig.reported(lambda one: one.reason == "quarantined", "the failure")
    codes = [Code.SERVES, Code.FAILED]
    eventually(lambda: [one.code for one in read(rig.dir)] == codes, "both are written")
    rig.kill()
    with (rig.dir / "history").open("ab") as file:
        file.write(b'{"at": 1, "sl')  # torn
    rig.start()
    rig.reported(lambda one: one.running, "serves again")
    assert [one.code for one in read(rig.dir)] == codes  # nothing new happened
    assert cli.main(["history", "--dir", str(rig.dir), SLOT]) == cli.OK
    told = capsys.readouterr().out
    assert f"MF_SERVES slot={SLOT} model=demo/linear version=1.0.0" in told
    assert "MF_FAILED" in told
    assert "E_SELF_TEST" in told
    assert cli.main(["why", "--dir", str(rig.dir)]) == cli.OK
    told = capsys.readouterr().out
    assert f"{SLOT} runs demo/linear 1.0.0: quarantined" in told
    assert "failed 1 times: E_SELF_TEST" in told
    assert cli.main(["why", "--json", "--dir", str(rig.dir), SLOT]) == cli.OK
    [row] = json.loads(capsys.readouterr().out)
    assert (row["slot"], row["version"], row["reason"]) == (SLOT, "1.0.0", "quarantined")
    assert row["failed"][0]["code"] == "E_SELF_TEST"
    assert "tried again later" in row["next"]
    assert cli.main(["why", "--dir", str(rig.dir), "other"]) == cli.ERROR


def test_a_rollback_by_hand_lasts_and_asks_no_network(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rollback = ["rollback", "--dir", str(rig.dir), SLOT]
    assert cli.main(rollback) == cli.NOT_RUNNING
    old = begin(rig)
    assert cli.main(rollback) == cli.ERROR
    assert "E_NO_PREVIOUS" in capsys.readouterr().err
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.serves(new)
    since = len(rig.reports)
    rig.server.requests.clear()
    assert cli.main([*rollback, "--json"]) == cli.OK
    said = json.loads(capsys.readouterr().out)
    assert said == {"slot": SLOT, "what": f"{SLOT} goes back to demo/linear 1.0.0"}
    row = rig.serves(old, since=since)
    assert rig.server.requests == []
    rig.kill()  # it outlives the agent
    rig.start()
    row = rig.serves(old)
    assert row.reason == "quarantined"
    assert "rolled back by hand" in row.detail
    assert rig.answer()[0] == 200


def test_a_rollback_to_what_is_not_allowed_is_refused(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    old = begin(rig)
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.serves(new)
    revoked = release_ref(old).id
    rig.fleet.revoke(revoked)
    rig.peer.publish(topics.RECALLS, rig.fleet.recalls(), retain=True)
    eventually(lambda: revoked in believe(rig.dir, rig.me.fleet).blocked, "it heard")
    # it is on disk; the supervisor knows once the child that wrote it has ended
    eventually(lambda: not children_of(rig, b"agent.trust"), "and took it in")
    code = cli.main(["rollback", "--dir", str(rig.dir), SLOT])
    rig.peer.publish(topics.RECALLS, b"", retain=True)
    assert code == cli.ERROR
    assert "E_NOT_ALLOWED" in capsys.readouterr().err
    assert rig.answer()[1]["model_version"] == "1.1.0"


def test_the_doctor_finds_what_is_wrong(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    old = begin(rig, "--verify-interval-s", "3600", "--report-interval-s", "3600")

    def examine() -> dict[str, bool]:
        capsys.readouterr()
        code = cli.main(["doctor", "--json", "--dir", str(rig.dir)])
        found = {one["name"]: one["ok"] for one in json.loads(capsys.readouterr().out)}
        assert code == (cli.OK if all(found.values()) else cli.FAILED)
        return found

    healthy = examine()
    assert {name for name, ok in healthy.items() if not ok} <= {"disk"}
    looked = {"agent", "settings", "server", "link", "broker", "runtime", "endpoint", SLOT}
    assert looked <= healthy.keys()
    rig.kill()
    spoil(rig, old)
    rig.dir.chmod(0o755)
    ill = examine()
    bad = {name for name, ok in ill.items() if not ok} - {"disk"}
    assert bad == {"agent", "directory", "endpoint", SLOT}


def test_systemd_hears_that_it_is_ready_alive_and_stopping(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        ear.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        rig.start()
        assert ear.recv(4096).startswith(b"READY=1")
        assert [ear.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert rig.stop() == 0
        said = b""
        while said != b"STOPPING=1":
            said = ear.recv(4096)


def test_install_writes_a_unit_that_systemd_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["install", "--root", str(tmp_path), "--dir", "/var/lib/modelfleet-agent"]
    assert cli.main([*arguments, "--", "--http-port", "8500"]) == cli.OK
    unit = tmp_path / "etc/systemd/system/modelfleet-agent.service"
    text = unit.read_text()
    assert "Type=notify" in text
    assert "--http-port 8500" in text
    assert "NoNewPrivileges=yes" in text
    assert (
        "u modelfleet-agent"
        in (tmp_path / "etc/sysusers.d/modelfleet-agent.conf").read_text()
    )
    assert cli.main(["install", "--root", str(tmp_path), "--dir", "/tmp/x"]) == cli.ERROR
    assert "E_DIR" in capsys.readouterr().err
    check_with_systemd(unit)


def check_with_systemd(unit: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: the unit was read only")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=25", str(unit)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
