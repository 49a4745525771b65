"""Fleets of simulated devices: releases, a group, orders as an operator gives them."""

from collections.abc import Callable
from typing import Any

from tests.support.devices import SimDevice
from tests.support.fleet import FleetUnderTest
from tests.support.server import PASSPHRASE, ServerUnderTest

from modelfleet_manifests.release import Release, ReleaseRef, release_ref
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.rollouts.engine import RolloutEngine
from modelfleet_server.trust.approver import open_approver
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.proposals import Publisher


def fleet_of(server: ServerUnderTest) -> FleetUnderTest:
    """Return the fleet of a running server, with the approver's keys opened."""
    path = server.server.settings.home / "approver.key"
    director = server.parts.get(Director)
    return FleetUnderTest(
        fleet=director.fleet,
        approver=open_approver(path, PASSPHRASE),
        director=director,
        publisher=server.parts.get(Publisher),
        approver_path=path,
    )


def publish_releases(
    server: ServerUnderTest,
    *versions: str,
    model: str = "demo/digits",
    slot: str = "digits",
) -> dict[str, ReleaseRef]:
    """Sign and publish versions, each of which may return to all before it."""
    fleet = fleet_of(server)
    released: dict[str, Release] = {}
    for version in versions:
        with server.database.write() as session:
            released[version] = fleet.release(
                session,
                version,
                model=model,
                slots=[slot],
                rollback_to=list(released),
                now_ms=now_ms(),
            )
    return {version: release_ref(one) for version, one in released.items()}


def operate(server: ServerUnderTest, path: str, **wish: Any) -> dict[str, Any]:
    """Post a wish as an operator; return the answer of `/api/v1/<path>`."""
    answer = server.client(Role.OPERATOR).post(f"/api/v1/{path}", json=wish)
    assert answer.is_success, answer.text
    return dict(answer.json())


def target(version: str, **other: Any) -> dict[str, Any]:
    """Return the wish for `demo/digits` in the slot `digits` of the group `line`."""
    wish = {"group": "line", "slot": "digits", "model": "demo/digits", "version": version}
    return wish | other


def make_line(
    server: ServerUnderTest, count: int, *, clock: Callable[[], int] = now_ms
) -> list[SimDevice]:
    """Enrol `cam-0`, `cam-1`, … with the label `line=a`, and make the group `line`."""
    devices = [
        SimDevice.enrol(server, f"cam-{n}", labels={"line": "a"}, clock=clock)
        for n in range(count)
    ]
    operate(server, "groups", name="line", selector="line=a")
    return devices


def make_engine(
    server: ServerUnderTest, *, clock: Callable[[], int] = now_ms
) -> RolloutEngine:
    """Return the engine that a test ticks by hand; make one, since it takes leases."""
    director = server.parts.get(Director)
    return RolloutEngine(server.database, director, clock=clock)
