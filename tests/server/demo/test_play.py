"""The demonstration fails where something is not as promised."""

from collections.abc import Iterator

import pytest

from modelfleet_server.demo.load.tally import Tally, Traffic, write_traffic
from modelfleet_server.demo.play import Play
from modelfleet_server.demo.stage import Stage
from modelfleet_server.demo.steps.releases import runs
from modelfleet_server.demo.telling import Begun, Line
from modelfleet_server.demo.waiting import PromiseError


@pytest.fixture
def said() -> list[Line]:
    return []


@pytest.fixture
def play(said: list[Line]) -> Iterator[Play]:
    with Stage() as stage:
        yield Play(stage, said.append, password="correct horse")


def test_one_failed_request_is_a_broken_promise_with_its_reason(play: Play) -> None:
    traffic = Traffic(
        devices={"cam-0": Tally(requests=900), "cam-1": Tally(requests=901, failed=1)},
        failures=["14:00:01 cam-1: 503: no model is active"],
    )
    write_traffic(play.stage.home / "traffic.json", traffic)
    with pytest.raises(PromiseError) as error:
        play.check_traffic()
    assert error.value.what == "1 of 1801 requests failed"
    assert "no model is active" in error.value.hint


def test_a_step_is_announced_and_its_time_is_kept(play: Play, said: list[Line]) -> None:
    with play.step(1, "A server, from nothing"):
        assert said == [Begun(1, "A server, from nothing")]
    assert list(play.measured.steps_s) == ["1"]


@pytest.mark.parametrize(
    "slot",
    [
        {"version": "1.0.0"},
        {"phase": "trial"},
        {"reason": "quarantined"},
        {"intact": False},
    ],
)
def test_a_device_runs_a_version_only_intact_and_in_rest(slot: dict[str, object]) -> None:
    fine = {
        "slot": "digits",
        "version": "1.1.0",
        "phase": "idle",
        "reason": "as-wanted",
        "intact": True,
    }
    assert runs({"slots": [fine]}, "1.1.0")
    assert not runs({"slots": [fine | slot]}, "1.1.0")
    assert not runs({"slots": []}, "1.1.0")
