"""What the device believes of the metadata. The names are attacks, or what must work."""

from pathlib import Path

import msgspec
import pytest
from tests.support.solo import SoloFleet, make_release
from tests.support.solo_device import EnrolledDevice
from tests.support.solo_http import Fault, FleetServer, metadata_path

from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.release import ReleaseRef


def content(state: TrustState) -> TrustState:
    """What was believed, without what the floors say of it."""
    return msgspec.structs.replace(state, behind=[], clock=0)


def test_a_release_that_approvers_signed_is_listed_with_its_statement(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    assert device.refresh(ref).code == ""
    view = device.door().view(device.fleet.now)
    assert view.releases[ref.id].version == "1.0.0"
    assert view.fresh
    assert view.epoch == 1
    assert view.seen.timestamp == 2
    assert [rule.model for rule in view.slots["main"]] == ["demo/digits"]


def test_a_release_that_nobody_signed_is_not_listed(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    other = make_release(device.fleet.files, "9.9.9")
    stranger = ReleaseRef(model=other.model, version=other.version, id="a" * 64)
    assert device.refresh(ref, stranger).code == ""
    assert device.state.problems == {stranger.id: "E_NOT_LISTED"}
    assert list(device.state.listed.values()) == [ref.id]


def test_a_release_of_a_namespace_that_is_not_delegated_is_not_listed(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    stranger = ReleaseRef(model="evil/digits", version="1.0.0", id="a" * 64)
    assert device.refresh(stranger).code == ""
    assert device.state.problems == {stranger.id: "E_NOT_LISTED"}


def test_a_document_that_names_another_statement_than_was_signed_finds_none(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    forged = ReleaseRef(model=ref.model, version=ref.version, id="b" * 64)
    assert device.refresh(forged).code == ""
    assert device.state.listed == {}
    assert device.state.problems == {forged.id: "E_MISMATCH"}


def test_a_tampered_statement_is_not_taken(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef
) -> None:
    path = next(one for one in device.fleet.files.targets if ref.id in one)
    good = device.fleet.files.targets[path]
    device.fleet.files.targets[path] = good.replace(b'"1.0.0"', b'"1.0.1"')
    assert device.refresh(ref).code == ""
    assert device.state.listed == {}
    assert device.state.problems == {ref.id: "E_MIX"}
    device.fleet.files.targets[path] = good
    device.refresh(ref)
    assert device.state.problems == {}
    assert list(device.state.listed.values()) == [ref.id]


def test_a_release_that_is_taken_off_the_list_is_not_listed_any_more(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    device.fleet.drop_release(make_release(device.fleet.files, "1.0.0"))
    device.fleet.publish()
    device.refresh()
    assert device.state.listed == {}
    assert not list((device.directory / "trust" / "releases").iterdir())


def test_what_was_listed_stays_listed_without_being_asked_for_again(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    newer = device.fleet.add_release(make_release(device.fleet.files, "1.1.0"))
    device.fleet.publish()
    device.refresh(newer)
    assert set(device.state.listed.values()) == {ref.id, newer.id}


def test_the_floor_is_the_one_that_the_model_role_carries(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.fleet.set_floor("demo/digits", "1.0.0")
    device.fleet.publish()
    device.refresh(ref)
    assert device.state.floors == {"demo/digits": "1.0.0"}
    device.fleet.set_floor("demo/digits", "not a version")
    device.fleet.publish()
    device.refresh(ref)
    assert device.state.floors == {"demo/digits": "1.0.0"}


def test_a_new_director_key_comes_with_a_new_epoch(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    old = device.state.director
    device.fleet.rotate_director()
    device.fleet.publish()
    device.refresh(ref)
    assert device.state.epoch == 2
    assert device.state.director == [device.fleet.keys["director"].public.hex]
    assert device.state.director != old


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"signed": {}, "signed": {}}', "E_FORMAT"),
        (b'{"a": NaN}', "E_FORMAT"),
        (b'{"a": 1.5}', "E_FORMAT"),
        (b'{"a": 99999999999999999999}', "E_FORMAT"),
        (b"[" * 40 + b"]" * 40, "E_FORMAT"),
        (b"[" * 4000 + b"]" * 4000, "E_FORMAT"),
        (b"\xff\xfe", "E_FORMAT"),
        (b"{}", "E_METADATA"),
        (b'{"a": "' + b"x" * 20_000 + b'"}', "E_ENDLESS"),
    ],
    ids=["twice", "nan", "float", "huge", "deep", "deeper", "utf8", "empty", "endless"],
)
def test_bytes_that_are_no_metadata_are_refused(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef, body: bytes, code: str
) -> None:
    device.refresh(ref)
    before = device.state
    server.break_next(metadata_path("timestamp.json"), Fault(body=body))
    assert device.refresh(ref).code == code
    assert device.state == before
    assert device.refresh(ref).code == ""


def test_a_cut_connection_and_a_failing_server_change_nothing(
    device: EnrolledDevice, server: FleetServer, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    before = device.state
    server.break_next(metadata_path("timestamp.json"), Fault(cut=10), Fault(status=503))
    assert device.refresh(ref).code == "E_CUT"
    assert device.refresh(ref).code == "E_HTTP"
    assert device.state == before


def test_the_factory_root_of_another_fleet_is_refused(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    path = device.directory / "factory" / "root.json"
    path.chmod(0o600)
    path.write_bytes(SoloFleet().root)
    assert device.refresh(ref).code == "E_METADATA"


def test_a_statement_rotten_on_disk_is_not_believed_and_comes_again(
    device: EnrolledDevice, ref: ReleaseRef
) -> None:
    device.refresh(ref)
    path: Path = device.directory / "trust" / "releases" / f"{ref.id}.json"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"1.0.0", b"6.6.6"))
    assert device.door().view(device.fleet.now).releases == {}
    device.refresh(ref)
    assert sha256(path.read_bytes()) == ref.id
