"""Recalls: what can be, how it reaches devices, and what is refused."""

import base64
import json

import pytest
from sqlmodel import Session, select
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, id_of

from modelfleet_manifests.errors import BadNameError
from modelfleet_manifests.recalls import Tombstone
from modelfleet_manifests.topics import RECALLS
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.catalog.releases import RevokedError, find_release, released_versions
from modelfleet_server.kit.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
)
from modelfleet_server.trust import recalling, repository, rolefile, store
from modelfleet_server.trust.domain import (
    Kind,
)
from modelfleet_server.trust.publishing import publish_roles
from modelfleet_server.trust.view import read_recalls, recalled_names


@pytest.mark.parametrize("kind", [Kind.REVOCATION, Kind.STOP])
def test_a_tombstone_reaches_the_recall_topic_and_only_its_own_role(
    session: Session, fleet: FleetUnderTest, kind: Kind
) -> None:
    release = fleet.release(session)
    fleet.recall(session, id_of(release), kind)
    payload = session.exec(select(Outbox.payload).where(Outbox.topic == RECALLS)).one()
    for role, text in json.loads(payload).items():
        file = base64.b64decode(text)
        row = store.find_newest(session, role)
        assert row is not None
        assert file == row.data
        hit = role == recalling.RECALL_ROLE[kind]
        assert (id_of(release).encode() in file) is hit


def test_recalls_too_many_for_one_message_are_published_all_the_same(
    session: Session, fleet: FleetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    sent = select(Outbox.payload).where(Outbox.topic == RECALLS)
    before = session.exec(sent).one()
    payload = store.read_payload(session, "revocations")
    tombstones = rolefile.parse_targets(payload or b"")
    tombstones = repository.advance(tombstones, "revocations", NOW)
    for number in range(1000):
        path = Tombstone("revocations", "digest", f"{number:064x}").path
        repository.add_target(tombstones, path, b"", {"reason": "tested too little"})
    key = fleet.approver.by_role["revocations"]
    signature = key.sign(rolefile.payload_of(tombstones)).hex()
    file = rolefile.assemble(
        rolefile.payload_of(tombstones), {key.public.key_id: signature}
    )
    publish_roles(session, fleet.publisher.signer, {"revocations": file}, {}, now_ms=NOW)
    assert len(read_recalls(session).blocked) == 1000
    assert session.exec(sent).one() == before
    assert "travel by refresh only" in caplog.text


def test_a_file_of_a_release_can_be_recalled_by_its_digest(
    session: Session, fleet: FleetUnderTest
) -> None:
    release = fleet.release(session)
    digest = release.variants[0].files[0].digest
    proposal = fleet.recall(session, digest)
    assert "x86-avx2-fp32" in proposal.title
    payload = store.read_payload(session, "revocations")
    assert f"tombstone/block/digest/{digest}".encode() in (payload or b"")


def test_a_recall_of_nothing_is_refused_unless_asked_for(
    session: Session, fleet: FleetUnderTest
) -> None:
    with pytest.raises(NotFoundError, match="would recall nothing"):
        recalling.find_recalled(session, "0" * 64)
    with pytest.raises(InvalidError):
        recalling.find_recalled(session, "1.0.0")
    found = recalling.find_recalled(session, "0" * 64, allow_unlisted=True)
    assert found.kind == "digest"


def test_a_range_of_versions_is_recalled_and_rolled_out_no_more(
    session: Session, fleet: FleetUnderTest
) -> None:
    ids = [id_of(fleet.release(session, one)) for one in ("1.0.0", "1.1.0", "1.2.0")]
    proposal = fleet.recall(session, "demo/digits@>=1.0.0,<1.2.0", Kind.STOP)
    assert "(2 releases so far)" in proposal.title
    recalls = read_recalls(session)
    assert recalls.stopped == {"demo:digits@1.0.0,1.2.0"}
    assert recalled_names(session) == recalls.stopped | set(ids[:2])
    assert released_versions(session, "demo/digits") == ["1.2.0"]
    with pytest.raises(RevokedError):
        find_release(session, "demo/digits", "1.1.0")
    with pytest.raises(ConflictError):
        fleet.recall(session, "demo/digits@>=1.0.0,<1.2.0", Kind.STOP)


def test_a_range_without_a_release_is_refused_unless_asked_for(
    session: Session, fleet: FleetUnderTest
) -> None:
    fleet.release(session)
    text = "demo/digits@>=7.0.0"
    with pytest.raises(NotFoundError, match="would recall nothing"):
        recalling.find_recalled(session, text)
    found = recalling.find_recalled(session, text, allow_unlisted=True)
    assert (found.kind, found.name) == ("range", "demo:digits@7.0.0,")
    with pytest.raises(BadNameError):
        recalling.find_recalled(session, "demo/digits@>=7", allow_unlisted=True)


def test_a_release_is_recalled_with_all_its_files(
    session: Session, fleet: FleetUnderTest
) -> None:
    release = fleet.release(session)
    files = {file.digest for one in release.variants for file in one.files}
    what = recalling.find_recalled(session, id_of(release), with_files=True)
    fleet.approve(
        session,
        recalling.propose_recall(
            session, Kind.REVOCATION, what, "bad", actor=ACTOR, now_ms=NOW
        ),
    )
    assert read_recalls(session).blocked == files | {id_of(release)}
    with pytest.raises(InvalidError, match="no release that has files"):
        recalling.find_recalled(session, min(files), with_files=True)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "two\nlines", "\u202etxet"])
def test_a_reason_that_cannot_be_shown_is_not_signed(
    session: Session, fleet: FleetUnderTest, reason: str
) -> None:
    what = recalling.find_recalled(session, id_of(fleet.release(session)))
    with pytest.raises(InvalidError, match="reason"):
        recalling.propose_recall(
            session, Kind.REVOCATION, what, reason, actor=ACTOR, now_ms=NOW
        )


def test_what_is_recalled_already_is_not_recalled_again(
    session: Session, fleet: FleetUnderTest
) -> None:
    name = id_of(fleet.release(session))
    fleet.recall(session, name)
    with pytest.raises(ConflictError, match="already"):
        fleet.recall(session, name)
