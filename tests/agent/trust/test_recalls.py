"""Revocations and stops: learned from any authentic file, never forgotten."""

import base64
import json

import pytest
from tests.support.solo import make_release
from tests.support.solo_device import EnrolledDevice

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.recalls import subject_of

BAD, WORSE = "a" * 64, "b" * 64


def test_a_revoked_release_is_sticky_after_the_role_drops_it(
    device: EnrolledDevice,
) -> None:
    device.fleet.revoke(BAD)
    device.fleet.stop(WORSE, kind="digest")
    device.fleet.publish()
    device.refresh()
    for role in ("revocations", "stops"):
        device.fleet.role(role).targets.clear()
    device.fleet.publish()
    assert device.refresh().code == ""
    recalls = device.door().view(device.fleet.now).recalls
    assert recalls.blocked == {BAD}
    assert recalls.stopped == {WORSE}


def test_a_recall_by_message_counts_before_the_metadata_is_refreshed(
    device: EnrolledDevice,
) -> None:
    device.refresh()
    device.fleet.revoke(BAD)
    device.fleet.stop(WORSE)
    assert device.recall(device.fleet.recalls()).code == ""
    assert device.state.blocked == [BAD]
    assert device.state.stopped == [WORSE]


def test_an_older_recall_message_takes_nothing_away(device: EnrolledDevice) -> None:
    device.refresh()
    old = device.fleet.recalls()
    device.fleet.revoke(BAD)
    device.fleet.publish()
    device.recall(device.fleet.recalls())
    assert device.recall(old).code == ""
    assert device.state.blocked == [BAD]


def test_a_recall_signed_by_a_stranger_adds_nothing(device: EnrolledDevice) -> None:
    device.refresh()
    device.fleet.signers["stops"] = [PrivateKey.generate()]
    device.fleet.stop(WORSE)
    device.fleet.revoke(BAD)
    assert device.recall(device.fleet.recalls()).code == "E_RECALLS"
    assert device.state.stopped == []
    assert device.state.blocked == [BAD]  # that file was authentic


def test_the_revokers_key_cannot_stop(device: EnrolledDevice) -> None:
    device.refresh()
    role = device.fleet.role("revocations")
    device.fleet.revoke(BAD)
    tombstone = role.targets.pop(f"tombstone/block/release/{BAD}")
    role.targets[f"tombstone/stop/release/{BAD}"] = tombstone
    assert device.recall(device.fleet.recalls()).code == ""
    assert device.state.stopped == []
    assert device.state.blocked == []


def test_a_release_in_place_of_a_role_is_refused(device: EnrolledDevice) -> None:
    device.refresh()
    fleet = device.fleet
    text = base64.b64encode(fleet.sign("timestamp")).decode()
    message = canonical({"revocations": text, "stops": text})
    assert device.recall(message).code == "E_RECALLS"


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"[]",
        b"no json",
        canonical({"revocations": "", "stops": ""}),
        canonical({"revocations": "AB==", "stops": "!"}),
        json.dumps({"revocations": "", "stops": ""}, indent=1).encode(),
        b"[" * 5000,
        b'"' + b"x" * (300 * 1024) + b'"',
    ],
    ids=["object", "list", "text", "empty", "base64", "spaces", "deep", "huge"],
)
def test_a_message_that_is_none_is_refused(device: EnrolledDevice, payload: bytes) -> None:
    device.refresh()
    before = device.state
    assert device.recall(payload).code == "E_RECALLS"
    assert device.state == before


def test_before_any_metadata_a_recall_cannot_be_judged(device: EnrolledDevice) -> None:
    assert device.recall(device.fleet.recalls()).code == "E_METADATA"


def test_a_tombstone_of_a_kind_that_is_not_known_is_told(device: EnrolledDevice) -> None:
    device.refresh()
    device.fleet.revoke("1.0.0", kind="range")
    device.fleet.revoke("demo", kind="namespace")
    device.fleet.revoke(BAD)
    answer = device.recall(device.fleet.recalls())
    assert answer.code == "E_RECALLS"
    assert "tombstone/block/range/1.0.0" in answer.what
    assert "tombstone/block/namespace/demo" in answer.what
    assert device.state.blocked == [BAD]


RANGE = "demo:digits@1.0.0,1.2.0"


@pytest.mark.parametrize("by_message", [True, False])
def test_a_range_blocks_the_versions_in_it_and_no_others(
    device: EnrolledDevice, *, by_message: bool
) -> None:
    fleet = device.fleet
    made = [make_release(fleet.files, one) for one in ("0.9.0", "1.0.0", "1.1.9", "1.2.0")]
    refs = [fleet.add_release(one) for one in made]
    fleet.publish()
    device.refresh(*refs)
    fleet.revoke(RANGE, kind="range")
    if by_message:
        device.recall(fleet.recalls())
    else:
        fleet.publish()
        device.refresh(*refs)
    assert device.state.blocked == [RANGE]
    recalls = device.door().view(fleet.now).recalls
    hit = [
        recalls.blocks(subject_of(ref.id, one)) for ref, one in zip(refs, made, strict=True)
    ]
    assert hit == [False, True, True, False]
    assert not any(
        recalls.stops(subject_of(ref.id, one)) for ref, one in zip(refs, made, strict=True)
    )


def test_a_stopped_range_is_sticky_and_only_the_officers_end_it(
    device: EnrolledDevice,
) -> None:
    fleet = device.fleet
    fleet.stop(RANGE, kind="range")
    fleet.publish()
    device.refresh()
    fleet.role("stops").targets.clear()
    fleet.publish()
    device.refresh()
    assert device.state.stopped == [RANGE]
    fleet.targets.unrecognized_fields["x-unrevoke"] = [f"tombstone/stop/range/{RANGE}"]
    fleet.publish()
    assert device.refresh().code == ""
    assert device.state.stopped == []


def test_a_range_meets_a_version_that_came_later(device: EnrolledDevice) -> None:
    fleet = device.fleet
    fleet.stop(RANGE, kind="range")
    late = make_release(fleet.files, "1.1.5")
    ref = fleet.add_release(late)
    fleet.publish()
    device.refresh(ref)
    view = device.door().view(fleet.now)
    assert ref.id in view.releases
    assert view.recalls.stops(subject_of(ref.id, late))


def test_a_revoked_release_stays_listed(device: EnrolledDevice) -> None:
    ref = device.fleet.add_release(make_release(device.fleet.files, "1.0.0"))
    device.fleet.revoke(ref.id)
    device.fleet.publish()
    device.refresh(ref)
    view = device.door().view(device.fleet.now)
    assert ref.id in view.releases
    assert view.recalls.blocks(subject_of(ref.id, view.releases[ref.id]))
