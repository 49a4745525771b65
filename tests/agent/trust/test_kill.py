"""The metadata child is killed at every write; what it leaves is always of one piece."""

from pathlib import Path

from tests.support.solo import make_release
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent import fsio
from modelfleet_agent.trust.memory import load_floors
from modelfleet_manifests.release import ReleaseRef


class KilledError(BaseException):
    """The child is gone; nothing of it runs any more."""


def test_killed_at_any_write_the_state_is_the_old_or_the_new_one(
    device: EnrolledDevice,
) -> None:
    fleet = device.fleet
    old = fleet.add_release(make_release(fleet.files, "1.0.0"))
    fleet.publish()
    device.refresh(old)
    cut, done = 0, False
    while not done:
        new = fleet.add_release(make_release(fleet.files, f"1.1.{cut}"))
        bad = f"{cut:064x}"
        fleet.revoke(bad)
        fleet.publish()
        before = device.state
        done = refresh_until(device, cut, new)
        after = device.state
        assert set(after.listed.values()) >= set(before.listed.values())
        # the floors come first: what is listed anew never lacks the tombstones beside it
        assert new.id not in after.listed.values() or bad in after.blocked
        assert set(after.blocked) >= set(before.blocked)
        assert after.is_fresh(fleet.now) == (after.seen["timestamp"] == newest_seen(device))
        view = device.door().view(fleet.now)
        assert set(view.releases) == set(after.listed.values())
        assert device.refresh(new).code == ""
        assert {new.id, old.id} <= set(device.state.listed.values())
        cut += 1
    assert cut > 5


def newest_seen(device: EnrolledDevice) -> int:
    floors = load_floors(device.directory, device.me.fleet)
    assert floors is not None
    return floors.seen["timestamp"].version


def refresh_until(device: EnrolledDevice, cut: int, new: ReleaseRef) -> bool:
    """Refresh, but be killed at the write with this number; say if none was so late."""
    left = cut

    def kill(_operation: str, _path: Path) -> None:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1

    stop = fsio.watch(kill)
    try:
        assert device.refresh(new).code == ""
    except KilledError:
        return False
    finally:
        stop()
    return True
