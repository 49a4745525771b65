"""Older metadata, other combinations of it, chains of roots, and long absence."""

import shutil

import msgspec
from tests.support.solo import DAY, make_release
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import ReleaseRef


def content(state: TrustState) -> TrustState:
    """What was believed, without what the floors say of it."""
    return msgspec.structs.replace(state, behind=[], clock=0)


def test_three_hundred_roots_are_walked(device: EnrolledDevice, ref: ReleaseRef) -> None:
    fleet = device.fleet
    for _ in range(300):
        fleet.roles["root"].version += 1
        version = fleet.roles["root"].version
        fleet.files.metadata[f"{version}.root.json"] = fleet.sign("root")
    assert device.refresh(ref).code == ""
    assert device.state.seen["root"] == 301
    assert device.refresh(ref).code == ""


def test_a_full_replay_of_older_metadata_is_refused(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    old = dict(device.fleet.files.metadata)
    device.fleet.revoke(ref.id)
    device.fleet.publish()
    device.refresh(ref)
    device.fleet.files.metadata = old
    assert device.refresh(ref).code == "E_ROLLBACK"
    assert device.state.blocked == [ref.id]


def test_the_replay_is_refused_when_the_cache_is_lost_too(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    old = dict(device.fleet.files.metadata)
    device.fleet.publish()
    device.refresh(ref)
    device.fleet.files.metadata = old
    shutil.rmtree(device.directory / "tuf")
    assert device.refresh(ref).code == "E_FREEZE"


def test_a_torn_cache_is_fetched_again(device: EnrolledDevice, ref: ReleaseRef) -> None:
    device.refresh(ref)
    for path in (device.directory / "tuf").glob("*.json"):
        if not path.is_symlink():
            path.write_bytes(path.read_bytes()[:100])
    assert device.refresh(ref).code == ""
    assert list(device.state.listed.values()) == [ref.id]


def test_an_old_model_role_under_a_new_snapshot_is_refused(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    fleet.publish()
    newer = fleet.add_release(make_release(fleet.files, "1.1.0"))
    fleet.publish()
    version = fleet.role("demo/digits").version
    fleet.files.metadata[f"{version}.demo/digits.json"] = fleet.files.metadata[
        f"{version - 1}.demo/digits.json"
    ]
    device.refresh(newer)
    assert device.state.listed == {}
    assert device.state.problems == {newer.id: "E_ROLLBACK"}


def test_fast_forwarded_versions_end_with_a_new_root(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    for role in ("snapshot", "timestamp"):
        fleet.roles[role].version = 1_000_000
    fleet.publish()
    assert device.refresh(ref).code == ""
    assert device.state.minimum.timestamp == 1_000_001
    fleet.rotate_online()
    fleet.publish()
    assert device.refresh(ref).code == ""
    assert device.state.minimum.timestamp == 1
    assert device.state.minimum.root == 2


def test_a_root_that_the_old_root_did_not_sign_is_refused(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    fleet = device.fleet
    fleet.roles["root"].version += 1
    fleet.keys["root"] = PrivateKey.generate()
    fleet.publish()
    assert device.refresh(ref).code == "E_THRESHOLD"


def test_a_frozen_timestamp_installs_nothing_but_takes_nothing_away(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    device.fleet.now += 15 * DAY
    view = device.door().view(device.fleet.now)
    assert not view.fresh
    assert ref.id in view.releases
    assert device.refresh(ref).code == "E_EXPIRED"
    assert list(device.state.listed.values()) == [ref.id]


def test_after_sixty_days_offline_one_refresh_recovers(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    device.fleet.now += 60 * DAY
    assert not device.door().view(device.fleet.now).fresh
    device.fleet.renew()
    assert device.refresh(ref).code == ""
    assert device.door().view(device.fleet.now).fresh


def test_expired_revocations_stop_installs_and_nothing_else(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    fleet.now += 40 * DAY
    for role in ("timestamp", "snapshot", "stops"):
        fleet.roles[role].expires = fleet._in_days(14)
    fleet.publish()
    assert device.refresh(ref).code == ""
    view = device.door().view(fleet.now)
    assert not view.fresh
    assert ref.id in view.releases
