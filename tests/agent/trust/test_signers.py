"""Who signs what: too few, the wrong ones, the same one twice."""

import msgspec
import pytest
from tests.support.solo import make_release
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import ReleaseRef


def content(state: TrustState) -> TrustState:
    """What was believed, without what the floors say of it."""
    return msgspec.structs.replace(state, behind=[], clock=0)


def test_a_second_way_to_a_role_gives_no_right_to_it(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    """A diamond: another namespace delegates the model, too, to a key of its own."""
    fleet, thief = device.fleet, PrivateKey.generate()
    fleet.add_release(make_release(fleet.files, "1.0.0", model="other/one"))
    fleet.publish()
    device.refresh(ref)
    fleet.delegate("other", "demo/digits", [thief], ["m/demo/digits/*/release.json"])
    trojan = fleet.add_release(make_release(fleet.files, "6.6.6"))
    fleet.signers["demo/digits"] = [thief]
    fleet.publish()
    device.refresh(ref, trojan)
    assert device.state.problems == {trojan.id: "E_THRESHOLD"}
    assert ref.id in device.state.listed.values()
    assert trojan.id not in device.state.listed.values()


@pytest.mark.parametrize(
    ("role", "code"),
    [
        ("timestamp", "E_THRESHOLD"),
        ("snapshot", "E_THRESHOLD"),
        ("targets", "E_THRESHOLD"),
        ("revocations", "E_THRESHOLD"),
        ("stops", "E_THRESHOLD"),
    ],
)
def test_metadata_signed_by_another_key_changes_nothing(
    device: EnrolledDevice, ref: ReleaseRef, role: str, code: str
) -> None:
    device.refresh(ref)
    before = device.state
    device.fleet.keys[role] = PrivateKey.generate()
    if role in device.fleet.signers:
        device.fleet.signers[role] = [device.fleet.keys[role]]
    device.fleet.publish()
    assert device.refresh(ref).code == code
    assert content(device.state) == content(before)


def test_a_model_role_signed_by_another_key_lists_nothing_new_and_keeps_what_was_listed(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    newer = device.fleet.add_release(make_release(device.fleet.files, "1.1.0"))
    device.fleet.signers["demo/digits"] = [PrivateKey.generate()]
    device.fleet.publish()
    assert device.refresh(ref, newer).code == ""
    assert list(device.state.listed.values()) == [ref.id]
    assert device.state.problems == {newer.id: "E_THRESHOLD"}


def test_one_approver_of_two_is_not_enough(device: EnrolledDevice) -> None:
    fleet = device.fleet
    ref = fleet.add_release(make_release(fleet.files, "1.0.0"))
    both = [PrivateKey.generate(), PrivateKey.generate()]
    fleet.delegate(
        "demo", "demo/digits", both, ["m/demo/digits/*/release.json"], threshold=2
    )
    fleet.signers["demo/digits"] = both[:1]
    fleet.publish()
    device.refresh(ref)
    assert device.state.problems == {ref.id: "E_THRESHOLD"}
    fleet.signers["demo/digits"] = both
    fleet.publish()
    device.refresh(ref)
    assert list(device.state.listed.values()) == [ref.id]


def test_one_public_key_under_two_key_ids_does_not_count_twice(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    before = device.state
    delegations = device.fleet.targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    key = delegations.keys[delegations.roles["stops"].keyids[0]]
    twin = type(key)("f" * 64, key.keytype, key.scheme, dict(key.keyval))
    delegations.keys[twin.keyid] = twin
    delegations.roles["stops"].keyids.append(twin.keyid)
    delegations.roles["stops"].threshold = 2
    device.fleet.publish()
    assert device.refresh(ref).code == "E_THRESHOLD"
    assert content(device.state) == content(before)


def test_a_director_that_may_list_releases_is_refused(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    fleet = device.fleet
    fleet.delegate("targets", "director", [fleet.keys["director"]], ["m/*/*/*/*"])
    fleet.publish()
    assert device.refresh(ref).code == "E_DELEGATION"


def test_team_a_cannot_sign_in_the_namespace_of_team_b(device: EnrolledDevice) -> None:
    fleet = device.fleet
    fleet.add_release(make_release(fleet.files, "1.0.0", model="a/one"))
    target = make_release(fleet.files, "1.0.0", model="b/two")
    ref = fleet.add_release(target)
    path = "m/b/two/1.0.0/release.json"
    fleet.role("a/one").targets[path] = fleet.role("b/two").targets.pop(path)
    fleet.publish()
    device.refresh(ref)
    assert device.state.problems == {ref.id: "E_NOT_LISTED"}
