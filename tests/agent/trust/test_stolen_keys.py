"""Whoever owns the server and all online keys."""

from tests.support.solo import make_release
from tests.support.solo_device import EnrolledDevice

from modelfleet_manifests.release import ReleaseRef

BAD = "a" * 64


def test_all_online_keys_stolen_together_list_no_release_and_lower_no_floor(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    """Server, database and all four online keys: they sign what they like."""
    fleet = device.fleet
    fleet.set_floor("demo/digits", "1.0.0")
    fleet.stop(BAD)
    fleet.publish()
    assert device.refresh(ref).code == ""
    thieves = [fleet.keys[one] for one in ("snapshot", "timestamp", "director", "time")]
    trojan = fleet.add_release(make_release(fleet.files, "6.6.6"))
    fleet.set_floor("demo/digits", None)
    fleet.signers["demo/digits"] = fleet.signers["demo"] = thieves
    fleet.publish(only=["demo", "demo/digits"])
    assert device.refresh(ref, trojan).code == ""
    assert device.state.problems == {trojan.id: "E_THRESHOLD"}
    assert device.state.floors == {"demo/digits": "1.0.0"}
    fleet.role("stops").targets.clear()
    fleet.signers["stops"] = thieves
    fleet.publish(only=["stops"])
    assert device.refresh(ref, trojan).code == "E_THRESHOLD"
    assert device.state.stopped == [BAD]
    assert set(device.state.listed.values()) == {ref.id}
