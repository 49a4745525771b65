"""What a device has seen it never goes below, whatever becomes of its caches."""

from tests.support.solo import DAY, make_release
from tests.support.solo_device import EnrolledDevice, floors_of, lose_caches
from tests.support.solo_http import Fault, FleetServer, metadata_path

from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.memory import NAMES, save_floors
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import ReleaseRef

BAD = "a" * 64


# replay


def test_a_replay_is_refused_when_cache_and_state_are_lost(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    old = dict(device.fleet.files.metadata)
    device.fleet.revoke(ref.id)
    device.fleet.publish()
    device.refresh(ref)
    device.fleet.files.metadata = old
    lose_caches(device)
    assert device.state.blocked == [ref.id]
    assert device.refresh(ref).code == "E_FREEZE"
    assert device.state.listed == {}
    assert device.state.blocked == [ref.id]


def test_a_truncated_floor_file_leaves_the_one_before(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    device.fleet.revoke(BAD)
    device.fleet.publish()
    device.refresh(ref)
    newest = device.directory / NAMES[floors_of(device).serial % 2]
    before = floors_of(device)
    newest.write_bytes(newest.read_bytes()[:200])
    assert floors_of(device).serial == before.serial - 1
    assert device.state.listed  # and the agent goes on
    assert device.refresh(ref).code == ""
    assert floors_of(device).seen == before.seen
    assert device.state.blocked == [BAD]


def test_both_floor_files_lost_nothing_is_installed_until_a_refresh(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.fleet.revoke(BAD)
    device.fleet.publish()
    device.refresh(ref)
    for name in NAMES:
        (device.directory / name).unlink(missing_ok=True)
    assert device.state.behind == ["floors"]
    assert not device.door().view(device.fleet.now).fresh
    assert device.state.blocked == [BAD]
    assert device.refresh(ref).code == ""
    assert device.door().view(device.fleet.now).fresh
    assert device.state.blocked == [BAD]


def test_floors_of_another_fleet_mean_nothing(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    save_floors(device.directory, Floors(fleet="0" * 64, root=99, blocked=[BAD]))
    assert device.refresh(ref).code == ""
    assert device.state.blocked == []


def test_a_withheld_snapshot_freezes_installs_until_it_comes(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    device.fleet.revoke(ref.id)
    device.fleet.publish()
    version = device.fleet.roles["snapshot"].version
    server.break_next(metadata_path(f"{version}.snapshot.json"), Fault(status=404))
    assert device.refresh(ref).code == "E_HTTP"
    assert device.state.behind == ["timestamp"]
    assert not device.door().view(device.fleet.now).fresh
    assert device.refresh(ref).code == ""
    assert device.state.behind == []


def test_a_withheld_revocations_file_freezes_installs_until_it_comes(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    device.fleet.revoke(ref.id)
    device.fleet.publish()
    version = device.fleet.roles["revocations"].version
    server.break_next(metadata_path(f"{version}.revocations.json"), Fault(status=404))
    assert device.refresh(ref).code == "E_HTTP"
    assert "revocations" in device.state.behind
    assert not device.door().view(device.fleet.now).fresh
    assert device.refresh(ref).code == ""
    assert device.state.blocked == [ref.id]


def test_an_old_snapshot_that_names_less_is_refused_after_cache_loss(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    """A thief of the online keys signs old content under high versions."""
    fleet = device.fleet
    older = dict(fleet.roles["snapshot"].meta)  # type: ignore[attr-defined]
    fleet.revoke(ref.id)
    fleet.publish()
    device.refresh(ref)
    lose_caches(device)
    fleet.roles["snapshot"].meta = older  # type: ignore[attr-defined]
    fleet.publish(only=[])
    assert device.refresh(ref).code == "E_FREEZE"


def test_an_old_model_role_is_refused_although_the_snapshot_keys_are_new(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    """Rotating online keys voids what snapshots claimed, not what approvers signed."""
    fleet = device.fleet
    newer = fleet.add_release(make_release(fleet.files, "1.1.0"))
    fleet.set_floor("demo/digits", "1.1.0")
    fleet.publish()
    device.refresh(ref, newer)
    lose_caches(device)
    fleet.rotate_online()
    snapshot = fleet.roles["snapshot"]
    fleet.publish(only=[])
    snapshot.meta["demo/digits.json"].version -= 1  # type: ignore[attr-defined]
    fleet.publish(only=[])
    assert device.refresh(newer).code == ""
    assert device.state.problems == {newer.id: "E_FREEZE"}
    assert device.state.floors == {"demo/digits": "1.1.0"}


def test_a_root_chain_cut_short_is_refused_after_cache_loss(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    old = dict(fleet.files.metadata)
    fleet.rotate_online()
    fleet.publish()
    device.refresh(ref)
    lose_caches(device)
    fleet.files.metadata = old
    assert device.refresh(ref).code == "E_FREEZE"


def test_a_version_floor_outlives_the_keys_and_the_caches(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    fleet.set_floor("demo/digits", "1.0.0")
    fleet.publish()
    device.refresh(ref)
    lose_caches(device)
    fleet.delegate(
        "demo", "demo/digits", [PrivateKey.generate()], ["m/demo/digits/*/release.json"]
    )
    role = fleet.role("demo/digits")
    role.version = 0
    fleet.set_floor("demo/digits", None)
    fleet.publish()
    device.refresh(ref)
    assert device.state.floors == {"demo/digits": "1.0.0"}


def test_approvers_may_lower_a_floor_by_a_newer_role(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.fleet.set_floor("demo/digits", "2.0.0")
    device.fleet.publish()
    device.refresh(ref)
    device.fleet.set_floor("demo/digits", "1.0.0")
    device.fleet.publish()
    device.refresh(ref)
    assert device.state.floors == {"demo/digits": "1.0.0"}


# rotation


def test_fast_forwarded_versions_end_with_new_online_keys_although_caches_are_lost(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    for role in ("snapshot", "timestamp"):
        fleet.roles[role].version = 1_000_000
    fleet.publish()
    device.refresh(ref)
    lose_caches(device)
    fleet.rotate_online()
    fleet.publish()
    assert device.refresh(ref).code == ""
    assert device.state.behind == []
    assert device.door().view(fleet.now).fresh


def test_a_claim_of_versions_that_nobody_signed_ends_with_new_online_keys(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    fleet = device.fleet
    snapshot = fleet.roles["snapshot"]
    snapshot.meta["revocations.json"].version = 1_000_000  # type: ignore[attr-defined]
    fleet.publish(only=[])
    assert device.refresh(ref).code == "E_HTTP"
    assert not device.door().view(fleet.now).fresh
    fleet.rotate_online()
    fleet.publish()
    assert device.refresh(ref).code == ""
    assert device.door().view(fleet.now).fresh


def test_three_roots_while_the_device_was_off(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    device.refresh(ref)
    for _ in range(3):
        fleet.now += 100 * DAY
        fleet.rotate_online()
        fleet.renew()
    assert device.refresh(ref).code == ""
    assert device.state.minimum.root == 4
    assert device.door().view(fleet.now).fresh


def test_a_skipped_root_is_not_reached(device: EnrolledDevice, ref: ReleaseRef) -> None:
    device.refresh(ref)
    fleet = device.fleet
    for _ in range(2):
        fleet.rotate_online()
        fleet.publish()
    del fleet.files.metadata["2.root.json"]
    assert device.refresh(ref).code == "E_THRESHOLD"
    assert device.state.minimum.root == 1
