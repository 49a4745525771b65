"""Signs documents of the director anew when half their life is over."""

import logging
from collections.abc import Sequence

import msgspec
from sqlmodel import Session

from modelfleet_manifests.document import cap_of
from modelfleet_manifests.envelope import unseal
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_server.trust import ledger
from modelfleet_server.trust.director import Director, Issued, publish
from modelfleet_server.trust.drafting import Draft, kind_of, parse_document
from modelfleet_server.trust.signer.domain import RefusedError

log = logging.getLogger(__name__)


def renew(
    session: Session, director: Director, now_ms: int, *, limit: int = 500
) -> list[Issued]:
    """Sign anew what is past its drawn 40 to 60 % of life, the oldest first.

    The content stays; order, dates and the lowest trust versions are new. What does not
    verify under the director's key was changed in the database: it is left to expire.

    Args:
        session: Writing.
        director: Signs.
        now_ms: Unix milliseconds.
        limit: Of documents in this call, so that the transaction stays short.
    """
    drafts = []
    known = director.known
    for due in ledger.find_due(session, now_ms, limit):
        try:
            drafts.append(_renewal(due, known))
        except ManifestError as error:
            _give_up(session, due.topic, error)
    try:
        return publish(session, director, drafts, now_ms=now_ms)
    except (ManifestError, RefusedError):
        # one of them is at fault: the others must not wait for it
        return [one for draft in drafts for one in _renew(session, director, draft, now_ms)]


def _renew(session: Session, director: Director, draft: Draft, now_ms: int) -> list[Issued]:
    try:
        return publish(session, director, [draft], now_ms=now_ms)
    except (ManifestError, RefusedError) as error:
        _give_up(session, draft.topic, error)
        return []


def _give_up(session: Session, topic: str, error: Exception) -> None:
    log.error("the document on %s is not renewed: %s", topic, error)
    ledger.forget_renewal(session, topic)


def _renewal(due: ledger.Entry, known: Sequence[PublicKey]) -> Draft:
    kind = kind_of(due.topic)
    payload = unseal(due.envelope, kind, known, cap=cap_of(kind))
    body = parse_document(payload, kind)
    header = body.header
    return Draft(
        due.topic,
        lambda new: msgspec.structs.replace(body, header=new),
        device=header.device or None,
        enrolment=header.enrolment or None,
        group=header.group or None,
    )
