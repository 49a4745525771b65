"""Online keys that were stolen, and what ends the theft, on a device."""

from pathlib import Path

import pytest
from sqlmodel import Session, col, delete, select
from tests.support.fleet import id_of, make_release
from tests.support.people import Office, TrustDevice
from tuf.api.metadata import Metadata

from modelfleet_agent.clock import boot_ms
from modelfleet_agent.trust.timing import Told, TrustedClock
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.envelope import seal, unseal
from modelfleet_manifests.errors import SignatureError
from modelfleet_manifests.keys import PrivateKey, PublicKey
from modelfleet_manifests.timetoken import open_token, seal_token, write_token
from modelfleet_manifests.topics import deployment_topic
from modelfleet_manifests.tuf_keys import NaclSigner
from modelfleet_server.trust import director, renewing, repository, store
from modelfleet_server.trust.approver import ROLES
from modelfleet_server.trust.delegations import KeySet
from modelfleet_server.trust.domain import State
from modelfleet_server.trust.drafting import Draft
from modelfleet_server.trust.keyplan import KeyPlan
from modelfleet_server.trust.online import (
    add_ring,
    read_online,
    read_rings,
)
from modelfleet_server.trust.publishing import store_file
from modelfleet_server.trust.signer.domain import NoOnlineKeyError
from modelfleet_server.trust.tables import TrustMetadata

FIRST, SECOND, THIRD = (make_release(one) for one in ("1.0.0", "1.1.0", "1.2.0"))
GROUP = "ab" * 16
FAR = 4_070_908_800_000
"""The year 2099."""


def test_a_stolen_director_key_is_replaced_and_every_document_signed_anew(
    office: Office, device: TrustDevice
) -> None:
    stolen = read_online(office.online_path).keys.director
    assert _deploy(office).header.epoch == 1
    add_ring(office.online_path, ["director"])
    office.restart()
    assert _deploy(office).header.epoch == 1  # the old key signs until the officers say
    public = read_rings(office.online_path)[0].keys.director.public
    plan = KeyPlan({"director": KeySet((public,))})
    assert office.rekey(plan, office.solo) is State.PUBLISHED
    assert device.refresh().code == ""
    assert device.state.epoch == 2
    keys = [PublicKey(one) for one in device.state.director]
    assert keys == [public]
    with office.database.write() as session:
        (again,) = renewing.renew(session, office.fleet.director, office.now)
    assert again.document.header.epoch == 2
    unseal(again.envelope, "deployment", keys, cap=1 << 15)
    forged = seal("deployment", b"{}", [stolen])
    with pytest.raises(SignatureError):
        unseal(forged, "deployment", keys, cap=1 << 15)


def test_stolen_online_keys_and_versions_counted_up_end_with_a_new_root(
    office: Office, device: TrustDevice
) -> None:
    stolen = read_online(office.online_path).keys
    with office.database.write() as session:
        _count_up(session, stolen.snapshot, stolen.timestamp, office.now)
    assert _deploy(office).header.min.timestamp == 1_000_001  # what nobody will reach again
    assert device.refresh(FIRST).code == ""
    assert device.state.minimum.timestamp == 1_000_001
    with office.database.write() as session:  # restored from the owner's records
        session.execute(
            delete(TrustMetadata).where(
                col(TrustMetadata.role).in_(("snapshot", "timestamp")),
                col(TrustMetadata.version) > 1_000_000,
            )
        )
    assert device.refresh().code == "E_ROLLBACK"  # for now it is held
    added = add_ring(office.online_path, ["snapshot", "timestamp"])
    office.restart()
    plan = KeyPlan({role: KeySet((key,)) for role, key in added.items()})
    assert office.rekey(plan, office.solo) is State.PUBLISHED
    assert office.release(SECOND, office.solo) is State.PUBLISHED
    assert device.refresh(FIRST, SECOND).code == ""
    assert device.listed == {id_of(FIRST), id_of(SECOND)}
    assert device.state.is_fresh(office.now)
    assert device.state.minimum.timestamp < 1000
    with office.database.write() as session:
        (again,) = renewing.renew(session, office.fleet.director, office.now)
    assert again.document.header.min.is_met_by(device.state.minimum)


def test_a_stolen_time_key_is_replaced_and_tells_no_device_the_time_any_more(
    office: Office, device: TrustDevice
) -> None:
    """The thief tells the year 2099; nobody is locked out by it for longer than that."""
    stolen = read_online(office.online_path).keys.time
    clock = TrustedClock()
    clock.confirm(Told(FAR, boot_ms(), frozenset(device.state.timekeepers)))
    assert device.state.timekeepers == [stolen.public.hex]
    assert not device.state.is_fresh(clock.now())
    added = add_ring(office.online_path, ["time"])
    office.restart()
    assert office.rekey(KeyPlan({"time": KeySet((added["time"],))}), office.solo) is (
        State.PUBLISHED
    )
    answer = device.refresh(FIRST)
    assert answer.time is not None  # the signer tells it with the new key, unasked
    clock.forget(device.state.timekeepers)
    clock.confirm(
        Told(answer.time.time, answer.time.at, frozenset(device.state.timekeepers))
    )
    assert clock.now() < FAR
    assert device.state.is_fresh(clock.now())
    keys = [PublicKey(one) for one in device.state.timekeepers]
    forged = seal_token(write_token(device.fleet, "1" * 32, FAR), [stolen])
    with pytest.raises(SignatureError):
        open_token(forged, keys, 1, fleet=device.fleet, nonce="1" * 32)


@pytest.mark.slow
def test_a_device_a_year_behind_catches_up_with_every_recovery_at_once(
    office: Office, device: TrustDevice, url: str, tmp_path: Path
) -> None:
    """While it was off, every online key was stolen and replaced, and people left."""
    behind = device
    near = TrustDevice(url, office.fleet.fleet, tmp_path / "near")
    (ann,) = office.hire("ann")
    for role in ("director", "time", "timestamp", "snapshot"):
        added = add_ring(office.online_path, [role])
        office.restart()
        plan = KeyPlan({role: KeySet((added[role],))})
        assert office.rekey(plan, office.solo) is State.PUBLISHED
        office.pass_days(100, office.solo)
        assert near.refresh(FIRST).code == ""
    everything = KeyPlan({role: KeySet((ann.public(role),)) for role in ROLES})
    proposal = office.propose(everything)
    office.sign(proposal, office.solo)
    assert office.sign(proposal, ann) is State.PUBLISHED
    assert office.release(SECOND, ann) is State.PUBLISHED
    assert not behind.state.is_fresh(office.now)
    assert behind.refresh(FIRST, SECOND).code == ""
    assert near.refresh(FIRST, SECOND).code == ""
    assert behind.state.is_fresh(office.now)
    assert behind.state == near.state
    assert behind.listed == {id_of(FIRST), id_of(SECOND)}
    assert behind.state.epoch == 2


def test_a_server_without_the_new_online_keys_publishes_nothing(office: Office) -> None:
    plan = KeyPlan({"timestamp": KeySet((PrivateKey.generate().public,))})
    proposal = office.propose(plan)
    with pytest.raises(NoOnlineKeyError):
        office.sign(proposal, office.solo)
    assert _only_open(office) == proposal
    with office.database.read() as session:
        assert store.minimum(session).root == 1


def _deploy(office: Office) -> Deployment:
    with office.database.write() as session:
        draft = Draft(
            deployment_topic(GROUP),
            lambda header: Deployment(header=header, slots={}, left=[]),
            group=GROUP,
        )
        [issued] = director.publish(
            session, office.fleet.director, [draft], now_ms=office.now
        )
    document = issued.document
    assert isinstance(document, Deployment)
    return document


def _count_up(
    session: Session, snapshot_key: PrivateKey, timestamp_key: PrivateKey, now: int
) -> None:
    """What a thief of both keys publishes: the same content under huge versions."""
    files: dict[str, bytes] = {}
    for role, key in (("snapshot", snapshot_key), ("timestamp", timestamp_key)):
        row = store.find_newest(session, role)
        assert row is not None
        metadata = Metadata.from_bytes(row.data)
        metadata.signed.version = 1_000_001
        if role == "timestamp":
            signed = repository.make_timestamp(metadata.signed, files["snapshot"], now)  # type: ignore[arg-type]
            signed.version = 1_000_001
            metadata = Metadata(signed)  # type: ignore[arg-type]
        metadata.sign(NaclSigner(key))
        files[role] = metadata.to_bytes()
        store_file(session, role, files[role], now)
    assert len(session.exec(select(TrustMetadata)).all()) > 6


def _only_open(office: Office) -> str:
    with office.database.read() as session:
        roles = store.newest_of_all(session)
        (found,) = store.open_proposals(session, {"root", *(row.role for row in roles)})
        return found.id
