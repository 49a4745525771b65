"""An agent whose own settings hold back what the fleet wants: it waits, and says so."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.agent import models
from tests.agent.rig import SLOT, Rig
from tests.agent.test_supervisor import begin
from tests.support.proxy import proxying

from modelfleet_agent import cli
from modelfleet_agent.link.permit import Permit
from modelfleet_agent.settings.link import LinkSettings
from modelfleet_agent.supervisor.status import read_status


def write(rig: Rig, text: str) -> None:
    (rig.dir / "agent.toml").write_text(text)


def window(after_h: int) -> str:
    """Return a window of an hour that opens so many hours from now, UTC."""
    opens = datetime.now(UTC) + timedelta(hours=after_h)
    return f"{opens:%H}:00-{opens + timedelta(hours=1):%H}:00".replace("-00:00", "-24:00")


@pytest.mark.slow
def test_a_new_release_is_fetched_but_waits_for_the_maintenance_window(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    write(rig, f'[switch]\nwindows = ["{window(5)}"]')
    old = begin(rig)  # nothing serves yet: what is first does not wait
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    row = rig.reported(lambda one: one.reason == "waits-for-window", "it waits")
    assert row.action == "install"
    assert f"maintenance window {window(5)} (UTC), which opens at" in row.detail
    assert (rig.dir / "store" / new.variants[0].digest).exists()
    assert rig.answer()[1]["model_version"] == "1.0.0"
    found = read_status(rig.dir)
    assert found is not None
    assert found.slots[SLOT].state == "waiting"
    assert cli.main(["status", "--dir", str(rig.dir)]) == cli.WAITS
    assert cli.main(["why", "--dir", str(rig.dir)]) == cli.OK
    assert "it begins when the window opens" in capsys.readouterr().out
    assert rig.stop() == 0
    write(rig, "")
    rig.start()
    rig.serves(new)
    assert rig.stop() == 0
    write(rig, f'[switch]\nwindows = ["{window(5)}"]')
    rig.start()
    since = len(rig.reports)
    rig.deploy(old)  # going back does not wait
    rig.serves(old, since=since)


def test_a_download_waits_for_its_window_and_asks_for_nothing(rig: Rig) -> None:
    write(rig, f'[link]\nwindows = ["{window(5)}"]')
    old = rig.release("1.0.0", models.linear(1.0))
    rig.fleet.publish()
    rig.assign()
    rig.deploy(old)
    rig.start()
    row = rig.reported(lambda one: one.reason == "waits-for-window", "it waits")
    assert "download window" in row.detail
    assert not [one for one in rig.server.requests if one.path.startswith("/blobs")]
    assert not list((rig.dir / "store").iterdir())


@pytest.mark.slow
def test_files_wait_for_a_link_that_they_may_come_over(rig: Rig) -> None:
    write(rig, '[link]\ninterfaces = ["wlan*"]')
    old = rig.release("1.0.0", models.linear(1.0))
    rig.fleet.publish()
    rig.assign()
    rig.deploy(old)
    rig.start()
    row = rig.reported(lambda one: one.reason == "waits-for-link", "it waits")
    assert "the way to 127.0.0.1 is lo; files may come over wlan* only" in row.detail
    assert rig.stop() == 0
    write(rig, '[link]\ninterfaces = ["lo"]')
    rig.start()
    rig.serves(old)


@pytest.mark.slow
def test_a_budget_that_is_used_up_is_told(rig: Rig) -> None:
    write(rig, "[link]\nbudget_mb_per_day = 1")
    old = begin(rig)
    big = rig.release("1.1.0", models.wide(width=1 << 17))
    rig.fleet.publish()
    rig.deploy(big, old)
    row = rig.reported(lambda one: one.reason == "waits-for-budget", "it waits")
    assert "the byte budget of 1 MiB a day is used up until" in row.detail
    assert 0 < row.bytes <= 1 << 20
    assert rig.answer()[1]["model_version"] == "1.0.0"


@pytest.mark.slow
def test_the_budget_counts_metadata_and_messages_too(rig: Rig) -> None:
    write(rig, "[link]\nbudget_mb_per_day = 50")
    old = begin(rig)
    assert rig.stop() == 0
    files = sum(one.length for one in old.variants[0].files)
    left = Permit(LinkSettings(budget_mb_per_day=50), rig.dir).left.bytes
    assert left is not None
    metadata, messages = 5_000, 1_000
    assert files + metadata + messages < (50 << 20) - left < 1 << 20


def test_settings_that_are_wrong_are_named_before_anything_runs(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    write(rig, "[link]\nmin_rate = -5")
    assert cli.main(["run", "--dir", str(rig.dir)]) == cli.ERROR
    assert "link.min_rate = -5: Expected `int` >= 0" in capsys.readouterr().err
    assert cli.main(["doctor", "--json", "--dir", str(rig.dir)]) == cli.FAILED
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert not found["settings"]["ok"]
    assert "link.min_rate" in found["settings"]["what"]


@pytest.mark.slow
def test_everything_goes_through_the_proxy(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    with proxying() as proxy:
        write(rig, f'[link]\nproxy = "http://me:word@127.0.0.1:{proxy.port}"')
        begin(rig)
        asked = " ".join(head.partition(" HTTP/")[0] for head in proxy.heads)
        seen = len(proxy.heads)
        cli.main(["doctor", "--json", "--dir", str(rig.dir)])
        found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
        assert found["broker"]["ok"]
        tunnel = "CONNECT {}:{} ".format(*rig.server.mqtt)
        assert [head for head in proxy.heads[seen:] if head.startswith(tunnel)]
    assert tunnel in asked + " "
    assert f"GET {rig.server.url}/tuf/metadata/" in asked
    assert f"GET {rig.server.url}/blobs/sha256/" in asked
    assert all("Proxy-Authorization: Basic" in head for head in proxy.heads)
