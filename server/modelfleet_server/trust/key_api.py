"""Other keys, floors and the end of a recall, over HTTP: proposals that people sign."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelfleet_manifests.digests import HEX64
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.recalls import MAX_NAME
from modelfleet_manifests.semver import MAX_LENGTH
from modelfleet_server.kit.access import OperatorDep
from modelfleet_server.kit.api import NowDep, WriteDep
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import flooring, proposing, recalling, rekeying
from modelfleet_server.trust.api import ProposalDetail, detail_of
from modelfleet_server.trust.delegations import KeySet
from modelfleet_server.trust.domain import Kind
from modelfleet_server.trust.keyplan import KeyPlan

router = APIRouter(prefix="/api/v1", tags=["trust"])
MAX_KEYS = 32
Hex = Annotated[str, Field(pattern=HEX64)]
Keys = Annotated[list[Hex], Field(min_length=1, max_length=MAX_KEYS)]
Reason = Annotated[str, Field(max_length=proposing.MAX_REASON)]


class KeysIn(BaseModel):
    """Who signs a role from now on: public keys, and how many of them must."""

    keys: Keys
    threshold: int = Field(ge=1, le=MAX_KEYS)


class RekeyingIn(BaseModel):
    """Other keys for some roles.

    `namespaces` are all approvers, the name of a namespace is its own approvers. Of each
    of `groups` one approver must be among the signers, and one of `waivers` where a release
    has a variant that nobody reproduced; null leaves them.
    """

    roles: dict[str, KeysIn] = Field(default={}, max_length=16)
    groups: list[Keys] | None = Field(default=None, max_length=8)
    waivers: list[Hex] | None = Field(default=None, max_length=MAX_KEYS)
    reason: Reason


class PardonIn(BaseModel):
    """A tombstone that is not to count any more."""

    name: str = Field(max_length=MAX_NAME)
    files: bool = False
    effect: Literal["revocation", "stop"] = "revocation"
    reason: Reason


class FloorIn(BaseModel):
    """The lowest version of a model that devices may install; null takes the floor away."""

    model: str = Field(max_length=MAX_NAME)
    floor: str | None = Field(max_length=MAX_LENGTH)
    reason: Reason


@router.post("/keys", status_code=HTTPStatus.CREATED)
def post_keys(
    wish: RekeyingIn, session: WriteDep, actor: OperatorDep, now: NowDep
) -> ProposalDetail:
    """Propose other keys; the roles that they touch are signed anew with them."""
    groups = wish.groups
    plan = KeyPlan(
        {role: _key_set(role, one) for role, one in wish.roles.items()},
        None if groups is None else [_read("a group", group) for group in groups],
        None if wish.waivers is None else _read("build-waiver", wish.waivers),
    )
    proposal = rekeying.propose_keys(
        session, plan, wish.reason, actor=str(actor), now_ms=now
    )
    return detail_of(session, proposal)


@router.post("/pardons", status_code=HTTPStatus.CREATED)
def post_pardon(
    wish: PardonIn, session: WriteDep, actor: OperatorDep, now: NowDep
) -> ProposalDetail:
    """Propose that a revocation or stop does not count any more."""
    what = recalling.find_recalled(
        session, wish.name, allow_unlisted=True, with_files=wish.files
    )
    proposal = rekeying.propose_pardon(
        session, Kind(wish.effect), what, wish.reason, actor=str(actor), now_ms=now
    )
    return detail_of(session, proposal)


@router.post("/floors", status_code=HTTPStatus.CREATED)
def post_floor(
    wish: FloorIn, session: WriteDep, actor: OperatorDep, now: NowDep
) -> ProposalDetail:
    """Propose the lowest version of a model that devices may install."""
    proposal = flooring.propose_floor(
        session, wish.model, wish.floor, wish.reason, actor=str(actor), now_ms=now
    )
    return detail_of(session, proposal)


def _key_set(role: str, wish: KeysIn) -> KeySet:
    try:
        return KeySet(tuple(_read(role, wish.keys)), wish.threshold)
    except ValueError as error:
        raise InvalidError(f"the keys of {role}: {error}", role=role) from None


def _read(what: str, keys: list[str]) -> list[PublicKey]:
    try:
        return [PublicKey(one) for one in keys]
    except ManifestError as error:
        raise InvalidError(f"the keys of {what}: {error}") from None
