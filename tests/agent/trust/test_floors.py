"""What a device has seen it never goes below, whatever becomes of its caches."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.solo import DAY, SoloFleet, make_release
from tests.support.solo_device import EnrolledDevice
from tests.support.solo_http import Fault, FleetServer, metadata_path

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.memory import NAMES, load_floors, save_floors
from modelfleet_manifests.keys import PrivateKey
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


# the clock


def test_a_clock_of_1970_does_not_make_old_metadata_young(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    fleet = device.fleet
    fleet.now += 20 * DAY
    fleet.renew()
    device.refresh(ref)
    fleet.roles["timestamp"].expires = fleet._in_days(-1)
    fleet.publish()
    assert device.refresh(ref, now=0).code == "E_EXPIRED"


def test_a_clock_of_1970_does_not_keep_a_device_from_updates(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    assert device.refresh(ref, now=0).code == ""
    assert device.door().view(0).fresh


def test_a_clock_of_2099_installs_nothing_and_leaves_no_trace(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    far = 4_070_908_800_000
    assert device.refresh(ref, now=far).code == "E_EXPIRED"
    assert not device.door().view(far).fresh
    assert ref.id in device.door().view(far).releases  # what runs goes on
    assert device.refresh(ref).code == ""
    assert device.door().view(device.fleet.now).fresh


def test_a_clock_poisoned_by_the_timestamp_key_ends_with_a_new_root(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    fleet, honest = device.fleet, device.fleet.now
    fleet.roles["timestamp"].expires = fleet._in_days(40_000)
    fleet.now = 4_070_908_800_000
    fleet.publish(only=[])
    fleet.now = honest
    device.refresh(ref)
    assert floors_of(device).issued == 4_070_908_800_000
    assert floors_of(device).clock < honest + 731 * DAY
    assert not device.door().view(honest).fresh
    fleet.rotate_online()
    fleet.renew()
    assert device.refresh(ref).code == ""
    assert floors_of(device).clock == honest
    assert device.door().view(honest).fresh


def test_expired_metadata_never_takes_a_release_away(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    view = device.door().view(device.fleet.now + 4000 * DAY)
    assert not view.fresh
    assert ref.id in view.releases


# undoing a recall


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


# the record


def test_a_full_disk_leaves_the_newest_record(tmp_path: Path) -> None:
    save_floors(tmp_path, Floors(fleet="f" * 64, root=1))

    def full(operation: str, path: Path) -> None:
        if operation == "write":
            raise OSError(28, "full")

    stop = fsio.watch(full)
    try:
        with pytest.raises((RetryableError, OSError)):
            save_floors(tmp_path, Floors(fleet="f" * 64, root=2))
    finally:
        stop()
    held = load_floors(tmp_path, "f" * 64)
    assert held is not None
    assert held.root == 1


def test_saving_the_same_again_writes_nothing(tmp_path: Path) -> None:
    floors = Floors(fleet="f" * 64, root=1)
    save_floors(tmp_path, floors)
    written: list[Path] = []
    stop = fsio.watch(lambda _operation, path: written.append(path))
    save_floors(tmp_path, floors)
    stop()
    assert written == []


keys = st.frozensets(st.sampled_from("abcd"), min_size=1)
versions = st.integers(0, 50)


@given(st.lists(st.tuples(versions, keys), max_size=8))
def test_a_floor_never_falls_while_its_keys_stay(
    steps: list[tuple[int, frozenset[str]]],
) -> None:
    floors = Floors(fleet="f")
    for version, now in steps:
        before = floors.seen.get("targets")
        lowest = rules.below_keys(floors, "targets", now)
        if before is not None and set(before.keys) <= now:
            assert lowest == before.version
        else:
            assert lowest == 0
        floors = rules.see(floors, "targets", version, now)
        assert floors.seen["targets"].version == max(version, lowest)


@given(
    st.lists(st.tuples(st.sampled_from(["", "1.0.0", "1.5.0", "2.0.0"]), st.integers(1, 5)))
)
def test_an_older_role_never_lowers_a_version_floor(steps: list[tuple[str, int]]) -> None:
    floors = Floors(fleet="f")
    for floor, role in steps:
        held = floors.models.get("m/d")
        floors = rules.raise_model(floors, "m/d", floor, role)
        if held is not None and role <= held.role:
            assert floors.models["m/d"].floor >= held.floor


# everything that the server has


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
