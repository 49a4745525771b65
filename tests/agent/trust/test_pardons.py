"""The end of a recall: officers sign it, and nobody else ends one."""

import shutil

import pytest
from tests.support.solo import SoloFleet, make_release
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.memory import load_floors
from modelfleet_manifests.release import ReleaseRef

BAD = "a" * 64


@pytest.fixture
def ref(fleet: SoloFleet) -> ReleaseRef:
    ref = fleet.add_release(make_release(fleet.files, "1.0.0"))
    fleet.publish()
    return ref


def floors_of(device: EnrolledDevice) -> Floors:
    floors = load_floors(device.directory, device.me.fleet)
    assert floors is not None
    return floors


def lose_caches(device: EnrolledDevice) -> None:
    shutil.rmtree(device.directory / "tuf")
    (device.directory / "trust" / "state.json").unlink()


def test_a_tombstone_is_undone_by_officers_only_and_counts_again_without_them(
    device: EnrolledDevice,
) -> None:
    fleet, path = device.fleet, f"tombstone/stop/release/{BAD}"
    fleet.stop(BAD)
    fleet.publish()
    device.refresh()
    fleet.role("stops").targets.clear()
    fleet.role("stops").unrecognized_fields["x-unrevoke"] = [path]
    fleet.publish()
    device.refresh()
    assert device.state.stopped == [BAD]
    fleet.targets.unrecognized_fields["x-unrevoke"] = [path]
    fleet.publish()
    device.refresh()
    assert device.state.stopped == []
    fleet.targets.unrecognized_fields["x-unrevoke"] = []
    fleet.publish()
    device.refresh()
    assert device.state.stopped == [BAD]


def test_a_pardon_for_installing_does_not_end_a_stop(device: EnrolledDevice) -> None:
    fleet = device.fleet
    fleet.stop(BAD)
    fleet.revoke(BAD)
    fleet.targets.unrecognized_fields["x-unrevoke"] = [f"tombstone/block/release/{BAD}"]
    fleet.publish()
    device.refresh()
    assert device.state.stopped == [BAD]
    assert device.state.blocked == []


def test_a_replayed_recall_message_does_not_undo_a_pardon(device: EnrolledDevice) -> None:
    fleet = device.fleet
    fleet.revoke(BAD)
    fleet.publish()
    message = fleet.recalls()
    fleet.targets.unrecognized_fields["x-unrevoke"] = [f"tombstone/block/release/{BAD}"]
    fleet.publish()
    device.refresh()
    device.recall(message)
    assert device.state.blocked == []
