"""What the API tells of a version."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import BaseModel
from sqlmodel import Session

from modelfleet_manifests.release import Variant
from modelfleet_server.catalog import lifecycle, versions
from modelfleet_server.catalog.domain import State
from modelfleet_server.catalog.numbering import Level
from modelfleet_server.catalog.tables import ModelVersion
from modelfleet_server.trust import store


class VersionOut(BaseModel):
    """A version in a list. `release` is its id once it is proposed, "" before."""

    id: str
    model: str
    version: str
    state: State
    reason: str
    proposal: str
    release: str
    created_by: str
    created_ms: int
    released_ms: int | None

    @classmethod
    def of(cls, row: ModelVersion) -> "VersionOut":
        """Return the answer for a row."""
        return cls(**row.model_dump(include=set(cls.model_fields)))


class ApprovalOut(BaseModel):
    """Who signed a role of the proposal that lists a version."""

    role: str
    key_id: str
    actor: str
    signed_ms: int


class ChangeOut(BaseModel):
    """What changed that the version's number does not say."""

    level: Level
    why: str


class FitOut(BaseModel):
    """Whether the number fits what changed since `against`, "" for a first version."""

    level: Level
    against: str
    changes: list[ChangeOut]


class VersionDetail(VersionOut):
    """All of a version. `variants` are as the release states them."""

    master: str
    master_length: int
    evaluation: str
    calibration: str
    lineage_digest: str
    lineage: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    profiles: list[str]
    slots: list[str]
    rollback_to: list[str]
    demands: dict[str, int]
    variants: list[dict[str, Any]]
    approvals: list[ApprovalOut]
    fit: FitOut


def detail_of(session: Session, row: ModelVersion) -> VersionDetail:
    """Return all of a version."""
    tensors = json.loads(row.tensors_json)
    made = versions.variants_of(session, row.id)
    signed = store.approvals_of(session, versions.name_of(row))
    return VersionDetail(
        **VersionOut.of(row).model_dump(),
        master=row.master,
        master_length=row.master_length,
        evaluation=row.evaluation,
        calibration=row.calibration,
        lineage_digest=row.lineage,
        lineage=json.loads(row.lineage_json),
        inputs=tensors["inputs"],
        outputs=tensors["outputs"],
        profiles=json.loads(row.profiles_json),
        slots=versions.slots_of(row),
        rollback_to=lifecycle.rollback_to(session, row),
        demands=json.loads(row.demands_json),
        variants=[_variant(one) for one in made],
        approvals=[
            ApprovalOut(
                role=one.role, key_id=one.key_id, actor=one.actor, signed_ms=one.signed_ms
            )
            for proposal, one in signed
            if proposal.id == row.proposal
        ],
        fit=_fit(session, row, made),
    )


def _fit(session: Session, row: ModelVersion, made: Sequence[Variant]) -> FitOut:
    found = lifecycle.fit_of(session, row, made)
    changes = [ChangeOut(level=one.level, why=one.why) for one in found.changes]
    return FitOut(level=found.level, against=found.against, changes=changes)


def _variant(variant: Variant) -> dict[str, Any]:
    return {**msgspec.to_builtins(variant), "digest": variant.digest}
