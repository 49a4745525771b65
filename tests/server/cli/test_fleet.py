"""Devices, groups, rollouts, compliance, rollback: a small line from claim to return."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.commands import Commands
from tests.support.devices import SimDevice
from tests.support.lines import publish_releases
from tests.support.server import ServerUnderTest

from modelfleet_server.cli.durations import parse_duration
from modelfleet_server.cli.words import ago, labels, size
from modelfleet_server.kit.errors import InvalidError


@pytest.fixture(scope="module")
def line(fleet: ServerUnderTest, admin: Commands) -> list[SimDevice]:
    """Two devices in the group `line`, and two signed releases."""
    publish_releases(fleet, "1.0.0", "1.1.0")
    devices = [SimDevice.enrol(fleet, f"cam-{n}", labels={"line": "a"}) for n in (1, 2)]
    made = admin.call("group", "create", "line", "--selector", "line=a", "--json").document
    assert made["members"] == 2
    return devices


@contextmanager
def alive(devices: list[SimDevice]) -> Iterator[None]:
    """Let devices do what they are told, until the block ends."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.1):
            for device in devices:
                device.follow()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_claim_names_the_command_that_enrols(admin: Commands) -> None:
    done = admin.call("device", "claim", "cam-9", "--label", "line=z")
    assert done.code == 0
    assert "modelfleet-agent enrol --server http://127.0.0.1" in done.out
    assert admin.call("device", "claim", "cam-9", "--label", "line").code == 4


def test_a_line_from_deploy_to_rollback(admin: Commands, line: list[SimDevice]) -> None:
    with alive(line):
        begun = admin.call(
            "deploy", "demo/digits@1.0.0", "-g", "line", "--wait", "--json"
        ).document
        assert begun["state"] == "done"
        assert admin.call("compliance", "-g", "line").code == 0

        plan = admin.call("rollout", "plan", "demo/digits@1.1.0", "-g", "line", "--json")
        assert [one["runs"] for one in plan.document["devices"]] == ["1.0.0", "1.0.0"]
        done = admin.call(
            "rollout", "start", "demo/digits@1.1.0", "-g", "line", "--no-gate",
            "--wave", "1", "--wave", "all", "--wait",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "wave 2, all: 2 devices" in done.err
        assert "state    done" in done.out

        back = admin.call(
            "rollback", "demo/digits@1.0.0", "-g", "line", "--wait", "--yes", "--json"
        ).document
        assert (back["devices"], back["stay"]) == (2, [])
        assert back["took_ms"] >= 0
        ended = admin.call("rollout", "watch", back["rollout"]["id"], "--json")
        assert ended.document["state"] == "done"
    listed = admin.call("device", "list", "--group", "line", "--json").document
    states = {one["id"]: one["slots"][0]["version"] for one in listed["items"]}
    assert states == {"cam-1": "1.0.0", "cam-2": "1.0.0"}


def test_what_has_not_come_exits_3(admin: Commands, line: list[SimDevice]) -> None:
    for device in line:
        device.follow()
    started = admin.call(
        "rollout", "start", "demo/digits@1.1.0", "-g", "line", "--json",
        "--min-labelled", "100", "--max-drop", "0.1", "--deadline", "2h",
        "--no-undo-itself",
    ).document  # fmt: skip
    assert started["gate"]["max_drop"] == 100
    assert started["gate"]["deadline_ms"] == 7_200_000
    rollout = started["id"]
    done = admin.call("rollout", "watch", rollout[:8], "--timeout", "1ms", "--json")
    assert done.code == 3
    assert admin.call("compliance", "--group", "line", "--json").code == 3

    assert admin.call("rollout", "pause", rollout[:8], "--reason", "lunch").code == 0
    watched = admin.call("rollout", "watch", rollout[:8], "--json")
    assert (watched.code, watched.document["state"]) == (3, "paused")
    assert admin.call("rollout", "pause", rollout).code == 5
    second = admin.call("deploy", "demo/digits@1.0.0", "-g", "line", "--json")
    assert (second.code, second.error["rollout"]) == (5, rollout)
    assert admin.call("rollout", "resume", rollout).code == 0
    undone = admin.call("rollout", "undo", rollout, "--yes", "--json").document
    assert undone["state"] == "undone"
    listed = admin.call("rollout", "list", "--state", "undone", "--json").document
    assert listed["items"][0]["id"] == rollout
    assert "canary" in admin.call("rollout", "show", rollout, "--json").document["waves"]


def test_a_rollback_that_is_not_reported_in_time_names_who_is_missing(
    admin: Commands, line: list[SimDevice]
) -> None:
    with alive(line):
        admin.call("deploy", "demo/digits@1.1.0", "-g", "line", "--wait")
    say = ("rollback", "demo/digits@1.0.0", "-g", "line", "--wait", "--yes", "--json")
    silent = admin.call(*say, "--timeout", "1ms")
    assert silent.code == 3
    assert silent.error["missing"] == ["cam-1", "cam-2"]
    with alive(line):
        assert admin.call(*say).document["devices"] == 2


def test_a_rollback_lists_who_may_not_return(
    admin: Commands, line: list[SimDevice]
) -> None:
    with alive(line):
        admin.call("rollback", "demo/digits@1.0.0", "-g", "line", "--wait", "--yes")
    say = ("rollback", "demo/digits@1.1.0", "-g", "line", "--yes")
    done = admin.call(*say)
    assert done.code == 0
    assert "cam-1 may not return to it" in done.err
    assert admin.call(*say, "--json").document["stay"] == ["cam-1", "cam-2"]


def test_a_device_shows_what_it_runs_and_its_last_hour(
    admin: Commands, line: list[SimDevice]
) -> None:
    admin.call("deploy", "demo/digits@1.0.0", "-g", "line")
    line[0].follow()
    line[0].serve("digits", hits=190)
    shown = admin.call("device", "show", "cam-1", "--json").document
    assert shown["last_hour"][0]["requests"] == 200
    words = admin.call("device", "show", "cam-1").out
    assert shown["slots"][0]["digest"] in words
    assert "190/200" in words
    why = admin.call("why", "cam-1", "--json").document
    assert why["slots"][0]["agree"] in {True, False}
    assert "because" in admin.call("why", "cam-1").out


def test_labels_are_set_and_taken_off_and_groups_follow(
    fleet: ServerUnderTest, admin: Commands
) -> None:
    SimDevice.enrol(fleet, "cam-7", labels={"site": "x", "spare": "yes"})
    SimDevice.enrol(fleet, "cam-8", labels={"site": "x"})
    made = admin.call("group", "create", "site-x", "--selector", "site=x", "--json")
    assert made.document["members"] == 2
    changed = admin.call("device", "label", "cam-7", "site=y", "spare-", "--json").document
    assert (changed["labels"], changed["groups"]) == ({"site": "y"}, [])
    pair = admin.call("group", "create", "pair", "--device", "cam-7", "--device", "cam-8")
    assert "2 devices" in pair.out
    assert admin.call("group", "delete", "site-x", "--yes").code == 0
    names = [one["name"] for one in admin.call("group", "list", "--json").document["items"]]
    assert "pair" in names
    assert "site-x" not in names
    retired = admin.call("device", "retire", "cam-7", "--yes", "--json").document
    assert retired["state"] == "retired"


def test_lists_follow_the_cursors_up_to_the_limit(
    fleet: ServerUnderTest, admin: Commands
) -> None:
    for number in range(3):
        SimDevice.enrol(fleet, f"page-{number}", labels={"page": "a"})
    say = ("device", "list", "--selector", "page=a")
    two = admin.call(*say, "--limit", "2", "--json").document
    assert [one["id"] for one in two["items"]] == ["page-0", "page-1"]
    assert two["next"] is not None
    assert admin.call(*say, "--limit", "0", "--json").document["next"] is None
    assert "--limit 0" in admin.call(*say, "--limit", "2").err


def test_the_audit_log_is_listed_and_verified(admin: Commands) -> None:
    assert admin.call("audit", "verify", "--json").document["seq"] > 0
    listed = admin.call("audit", "list", "--limit", "3", "--json").document
    assert len(listed["items"]) == 3
    assert "Whole: " in admin.call("audit", "verify").out


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("10min", 600_000), ("2h", 7_200_000), ("5ms", 5)]
)
def test_times_are_written_with_their_unit(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "10", "-1s", "1 week", "1.5h"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="10min"):
        parse_duration(text)


def test_numbers_are_shown_as_people_read_them() -> None:
    assert size(96_199) == "93.9 KiB"
    assert size(12) == "12 B"
    assert ago(1_000_000, 1_012_000) == "12 s ago"
    assert ago(0, 1) == "never"
    assert ago(1, 3 * 3_600_000) == "2 h ago"
    assert labels({"b": "2", "a": "1"}) == "a=1,b=2"
