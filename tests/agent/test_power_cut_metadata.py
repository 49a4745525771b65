"""Cut at any write of the metadata child, the agent comes back and never goes below.

The child and the agent are killed together, as by a power cut: at each file of the cache of
metadata, at the records of the floors, at statements and at the state.
"""

from pathlib import Path

import pytest
from tests.agent.power_cut import Update
from tests.agent.rig import Rig
from tests.support.kill import KillPoint, Order

from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.memory import load_floors

METADATA = ("/tuf", "/trust", "/floors", "/.tmp-floors")


def is_of_metadata(point: KillPoint) -> bool:
    name = point.pattern.lstrip("^").replace("\\", "")
    return point.count == 1 and name.startswith(METADATA)


def floors_of(rig: Rig) -> Floors:
    floors = load_floors(rig.dir, rig.me.fleet)
    assert floors is not None
    return floors


def cut(story: Update, point: KillPoint) -> None:
    """Kill at a point; whatever was seen before is seen after."""
    before = floors_of(story.rig)
    assert story.round(Order("kill", point)), point
    after = floors_of(story.rig)
    assert after.root >= before.root
    assert after.clock >= before.clock
    assert set(after.stopped) >= set(before.stopped)
    for role, floor in before.seen.items():
        assert after.seen[role].version >= floor.version, role
    for role, version in before.claimed.items():
        assert after.claimed[role] >= version, role


def test_a_refresh_can_be_cut_where_it_matters_most(rig: Rig) -> None:
    cut(Update(rig), KillPoint("rename", "^/trust/state"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_before_any_write_of_the_metadata_it_comes_back(
    rig: Rig, tmp_path: Path
) -> None:
    story = Update(rig)
    points = [one for one in story.trace(tmp_path / "trace") if is_of_metadata(one)]
    operations = {(one.operation, one.pattern.split("/")[1]) for one in points}
    assert {name for _, name in operations} >= {"tuf", "trust"}
    assert any("floors" in one.pattern for one in points)
    assert len(points) > 12
    for point in points:
        cut(story, point)
