"""A real agent whose clock stands in 1970 or 2099: neither bricked nor opened."""

import pytest
from tests.agent import models
from tests.agent.rig import SLOT, Rig
from tests.support import wrong_clock
from tests.support.waiting import eventually

from modelfleet_agent.clock import now_ms
from modelfleet_agent.supervisor.status import read_status
from modelfleet_manifests.release import release_ref

FAR = 4_070_908_800_000
"""The year 2099, Unix ms."""


@pytest.mark.parametrize(
    "wrong", [pytest.param(0, marks=pytest.mark.slow), FAR], ids=["1970", "2099"]
)
def test_a_wrong_clock_neither_bricks_the_agent_nor_opens_it(rig: Rig, wrong: int) -> None:
    old = rig.release("1.0.0", models.linear(1.0))
    rig.fleet.publish()
    rig.assign()
    rig.deploy(old)
    rig.program = wrong_clock.command(wrong - now_ms())
    rig.start()
    rig.serves(old)  # the server tells what time it is
    rig.kill()

    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.server.tells_time = False
    rig.start()
    pid = rig.process.pid if rig.process else 0

    def waits() -> bool:
        found = read_status(rig.dir)
        if found is None or found.pid != pid or SLOT not in found.slots:
            return False
        slot = found.slots[SLOT]
        assert slot.digest in {None, "", old.variants[0].digest}
        return slot.reason in {"waits-for-metadata", "expired"}

    eventually(waits, "it waits to be told the time", 30)
    asked = sum("/tuf/time/" in one.path for one in rig.server.requests)
    again = lambda: sum("/tuf/time/" in one.path for one in rig.server.requests) > asked  # noqa: E731
    eventually(again, "it asks again", 30)
    status, answer = rig.answer()
    assert status == 200
    assert answer["parameters"]["modelfleet_release"] == release_ref(old).id
    rig.server.tells_time = True
    rig.serves(new)
