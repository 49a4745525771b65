"""Cut or refused at any change of the disk, the agent ends in a working, verified model.

Every change of a story is found by tracing it once; the agent is then killed with -9 just
before each of them, or the change fails as on a full, a read-only or a failing disk. All
changes go through `fsio`: the trace fails where one does not.
"""

from pathlib import Path

import pytest
from tests.agent.power_cut import (
    Packed,
    Refusal,
    Removal,
    Return,
    Story,
    Update,
    Withdrawal,
)
from tests.agent.rig import Rig
from tests.support.kill import KillPoint, Order

STORIES = [Update, Packed, Refusal, Withdrawal, Removal, Return]
# What depends on the moment, not on the story: how many reports, how often the status.
# The first one of each is tried; it may not come at all.
BY_CHANCE = (
    *("/outbox", "/agent.json", "/.tmp-agent.json", "/history", "/."),
    *("/tuf", "/trust", "/floors"),  # how often it is refreshed: test_power_cut_metadata.py
)


def is_by_chance(point: KillPoint) -> bool:
    return point.pattern.lstrip("^").replace("\\", "").startswith(BY_CHANCE)


def trace(story: Story, tmp_path: Path) -> list[KillPoint]:
    points = story.trace(tmp_path / "trace")
    assert len(points) > 20
    return [point for point in points if point.count == 1 or not is_by_chance(point)]


def sweep(story: Story, points: list[KillPoint]) -> None:
    """Kill at each point; all of them must be reached."""
    missed = [point for point in points if not story.round(Order("kill", point))]
    assert [str(point) for point in missed if not is_by_chance(point)] == []


def test_an_update_can_be_cut_where_it_matters_most(rig: Rig) -> None:
    points = [
        KillPoint("rename", "slots/linear/current"),
        KillPoint("write", "journal/linear", 5),
    ]
    sweep(Update(rig), points)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", STORIES)
def test_killed_before_any_change_of_the_disk_it_comes_back(
    rig: Rig, tmp_path: Path, kind: type[Story]
) -> None:
    story = kind(rig)
    sweep(story, trace(story, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EIO"])
def test_an_update_survives_a_disk_that_refuses_any_change_for_a_while(
    rig: Rig, tmp_path: Path, error: str
) -> None:
    story = Update(rig)
    for point in trace(story, tmp_path):
        story.round(Order(error, point, times=2))
