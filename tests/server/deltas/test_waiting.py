"""A rollout waits for deltas that its devices could use, and for nothing else."""

import pytest
from tests.server.deltas.conftest import MODEL, SLOT, Yard
from tests.support.fleet import NOW

from modelfleet_manifests.digests import EMPTY
from modelfleet_server.catalog import service as catalog
from modelfleet_server.deltas import service as deltas
from modelfleet_server.deltas.service import PLANNER
from modelfleet_server.devices.tables import Group
from modelfleet_server.kit.access import system
from modelfleet_server.kit.ids import new_id
from modelfleet_server.rollouts import drafts, service
from modelfleet_server.rollouts.deployments import steps_of
from modelfleet_server.rollouts.domain import Event, State, parse_wave
from modelfleet_server.rollouts.drafts import Wish
from modelfleet_server.rollouts.engine import begin_prepared
from modelfleet_server.rollouts.planning import Plan
from modelfleet_server.rollouts.tables import Rollout

ADA = system("ada")
WISH = Wish("plant", SLOT, MODEL, "1.1.0", (parse_wave("all"),))
WAIT_MS = 60_000


@pytest.fixture
def group(yard: Yard) -> Group:
    with yard.database.write() as session:
        group = Group(id=new_id(), name="plant", selector="site=a", created_ms=NOW)
        session.add(group)
        return group


def start(yard: Yard) -> Rollout:
    with yard.database.write() as session:
        rollout = drafts.create(session, WISH, ADA, now_ms=NOW)
        return service.start(session, yard.fleet.director, rollout, ADA, now_ms=NOW)


def look(yard: Yard, rollout_id: str, now: int = NOW + 1000) -> State:
    """Let the engine look at a rollout that prepares; return its state."""
    with yard.database.write() as session:
        rollout = service.find_rollout(session, rollout_id)
        if rollout.state is State.PREPARING:
            begin_prepared(session, yard.fleet.director, rollout, WAIT_MS, now_ms=now)
        return rollout.state


def steps(yard: Yard, group: Group) -> int:
    with yard.database.read() as session:
        return len(steps_of(session, group.id, SLOT))


def preview(yard: Yard) -> Plan:
    with yard.database.read() as session:
        return drafts.preview(session, WISH)


def test_it_waits_while_they_are_made_and_then_goes_out(yard: Yard, group: Group) -> None:
    yard.run("1.0.0", 2, group=group.id)
    made = start(yard)
    assert made.state is State.PREPARING
    assert (look(yard, made.id), steps(yard, group)) == (State.PREPARING, 0)
    yard.plan("1.1.0")
    assert (look(yard, made.id), steps(yard, group)) == (State.RUNNING, 1)


def test_it_waits_no_longer_than_it_may(yard: Yard, group: Group) -> None:
    yard.run("1.0.0", group=group.id)
    made = start(yard)
    assert look(yard, made.id, NOW + WAIT_MS - 1) is State.PREPARING
    assert look(yard, made.id, NOW + WAIT_MS) is State.RUNNING
    assert steps(yard, group) == 1


def test_a_person_may_end_the_wait(yard: Yard, group: Group) -> None:
    yard.run("1.0.0", group=group.id)
    made = start(yard)
    with yard.database.write() as session:
        rollout = service.find_rollout(session, made.id)
        service.start(session, yard.fleet.director, rollout, ADA, now_ms=NOW)
        assert rollout.state is State.RUNNING
    assert steps(yard, group) == 1


def test_what_waits_can_be_undone_and_leaves_no_step(yard: Yard, group: Group) -> None:
    yard.run("1.0.0", group=group.id)
    made = start(yard)
    with yard.database.write() as session:
        rollout = service.find_rollout(session, made.id)
        director = yard.fleet.director
        service.move(session, director, rollout, Event.UNDO, ADA, now_ms=NOW)
        assert rollout.state is State.UNDONE
    assert steps(yard, group) == 0


@pytest.mark.parametrize("runs", ["1.1.0", None])
def test_without_a_device_that_could_use_a_delta_it_goes_out_at_once(
    yard: Yard, group: Group, runs: str | None
) -> None:
    yard.run(runs, group=group.id)
    with yard.database.write() as session:  # somebody else's are being made
        ref = yard.releases["1.1.0"]
        deltas.request(session, ref, actor=PLANNER, at_ms=NOW)
    assert start(yard).state is State.RUNNING
    assert steps(yard, group) == 1


def test_the_plan_counts_what_devices_will_fetch(yard: Yard, group: Group) -> None:
    yard.run("1.0.0", 2, group=group.id)
    yard.run("1.1.0", 1, group=group.id)
    golden = 6
    with yard.database.read() as session:
        packed = catalog.find_delta(session, yard.files["1.1.0"], EMPTY)
    assert packed
    before = preview(yard)
    assert sorted((one.method, one.length) for one in before.shares) == [
        ("none", 0),
        *[("packed", packed.length + golden)] * 2,
    ]
    yard.plan("1.1.0")
    offer = yard.offer("1.0.0", "1.1.0")
    assert offer
    assert preview(yard).length == 2 * (offer.length + golden)
