"""The end of a recall: officers sign it, and nobody else ends one."""

from tests.support.solo_device import EnrolledDevice

BAD = "a" * 64


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
