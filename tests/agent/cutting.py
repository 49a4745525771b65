"""Every change of the disk in a story, and the sweep that kills the agent before each."""

from pathlib import Path

from tests.agent.power_cut import Story
from tests.support.kill import KillPoint, Order

# What depends on the moment, not on the story: how many reports, how often the status.
# The first one of each is tried; it may not come at all.
BY_CHANCE = (
    *("/outbox", "/agent.json", "/.tmp-agent.json", "/history", "/."),
    *("/tuf", "/trust", "/floors"),  # how often it is refreshed: test_power_cut_metadata.py
)


def is_by_chance(point: KillPoint) -> bool:
    return point.pattern.lstrip("^").replace("\\", "").startswith(BY_CHANCE)


def trace(story: Story, tmp_path: Path) -> list[KillPoint]:
    """Run a story once and return its changes."""
    points = story.trace(tmp_path / "trace")
    assert len(points) > 20
    return [point for point in points if point.count == 1 or not is_by_chance(point)]


def sweep(story: Story, points: list[KillPoint]) -> None:
    """Kill at each point; all of them must be reached."""
    missed = [point for point in points if not story.round(Order("kill", point))]
    assert [str(point) for point in missed if not is_by_chance(point)] == []
