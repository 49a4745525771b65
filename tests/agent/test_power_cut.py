"""Kill -9 at a change of the disk: the next start ends in a working, verified model."""

import pytest
from tests.agent import models
from tests.agent.rig import Rig
from tests.agent.test_supervisor import begin
from tests.support.kill import KillPoint

# the n-th write of the journal is the n-th phase: fetching, patching, testing, trial, idle
POINTS = [
    KillPoint("write", "journal/linear$", 1),
    KillPoint("write", "/incoming/", 1),
    KillPoint("rename", "/store/", 1),
    KillPoint("write", "journal/linear$", 3),
    KillPoint("create", "/releases/", 1),
    KillPoint("write", "journal/linear$", 4),
    KillPoint("write", "state/linear$", 1),
    KillPoint("rename", "slots/linear/previous$", 1),
    KillPoint("rename", "slots/linear/current$", 1),
    KillPoint("write", "state/linear$", 2),
    KillPoint("write", "journal/linear$", 5),
    KillPoint("rename", "outbox/", 2),
    KillPoint("rename", "documents/", 1),
]
FAST = {8}  # just before the links move


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(p, id=str(p), marks=() if n in FAST else pytest.mark.slow)
        for n, p in enumerate(POINTS)
    ],
)
def test_an_agent_that_is_killed_comes_back_and_ends_the_update(
    rig: Rig, point: KillPoint
) -> None:
    old = begin(rig)
    rig.kill()
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.start(dies_at=point)
    assert rig.ended() == -9
    rig.start()
    rig.serves(new)
    assert rig.answer()[0] == 200
    assert rig.stop() == 0
    left = {path.name for path in (rig.dir / "incoming").iterdir()}
    assert left == set()
    kept = {path.name for path in (rig.dir / "store").iterdir()}
    named = [
        file.digest
        for release in (old, new)
        for file in (*release.variants[0].files, release.variants[0].golden.file)
    ]
    assert kept == set(named)
