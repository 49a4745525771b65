"""Versions: made once, never changed, given their variants one by one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from sqlmodel import Session, col, select

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import write
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.names import check_name, split_model
from modelfleet_manifests.release import Demands, Schema, Variant
from modelfleet_manifests.semver import Version
from modelfleet_server.audit import service as audit
from modelfleet_server.blobs.service import Blob, BlobStore, keep
from modelfleet_server.catalog import vouching
from modelfleet_server.catalog.domain import Event, State, after, write_lineage
from modelfleet_server.catalog.tables import Model, ModelVersion, VersionVariant
from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.kit.ids import new_id

MAX_SLOTS = 16
MAX_ROLLBACK = 64


class VersionExistsError(ConflictError):
    """The version is there already; versions never change."""

    code = "version-exists"


class VersionInputError(InvalidError):
    """What was given for a version is not well-formed."""

    code = "version-input"


class BlobMissingError(NotFoundError):
    """A blob that a version names is not on the server."""

    code = "blob-missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """What makes a version.

    Attributes:
        model: `namespace/name`.
        version: Semantic, not there yet.
        master: Digest of the uploaded full-precision model.
        evaluation: Digest of the uploaded evaluation set.
        calibration: Digest of the uploaded calibration set, None where there is none.
        lineage: See `domain.write_lineage`.
        schema: Of the master.
        profiles: What variants are built for, at least one.
        slots: Which slots may hold it; None for one that is called like the model.
        rollback_to: Lower versions that a device may return to; None for all that are
            released when this one is proposed.
        demands: What a device must see before it keeps the release.
        vouched: How approvers vouch for its variants, see `vouching`.
    """

    model: str
    version: str
    master: str
    evaluation: str
    calibration: str | None = None
    lineage: Mapping[str, object]
    schema: Schema
    profiles: Sequence[str]
    slots: Sequence[str] | None = None
    rollback_to: Sequence[str] | None = None
    demands: Demands = field(default_factory=Demands)
    vouched: Mapping[str, str] = field(default_factory=dict)


class Material(NamedTuple):
    """The blobs that variants are built from: digests; `calibration` may be None."""

    master: str
    evaluation: str
    calibration: str | None


def check_new(session: Session, model: str, version: str) -> None:
    """Return if a version of this name can be made; asks nothing of any file.

    Raises:
        BadNameError: The model's name or the version is not well-formed.
        VersionExistsError: It is there already.
    """
    split_model(model)
    Version(version)
    held = find_version(session, model, version)
    if held is not None:
        raise VersionExistsError(
            f"{model} {version} is there already, and it is {held.state}",
            "Versions never change: publish a higher one.",
            version=held.id,
        )


def check_blobs(blobs: BlobStore, **digests: str) -> dict[str, Blob]:
    """Return the blobs that a version is made of, by what they are.

    Raises:
        BlobMissingError: One of them was not uploaded.
    """
    found: dict[str, Blob] = {}
    for what, digest in digests.items():
        blob = blobs.find(digest)
        if blob is None:
            raise BlobMissingError(
                f"the {what} {digest} is not on the server",
                "Upload it first: PUT /api/v1/blobs/sha256/<digest>.",
                digest=digest,
            )
        found[what] = blob
    return found


def create_version(
    session: Session, blobs: BlobStore, new: NewVersion, *, actor: str, now_ms: int
) -> ModelVersion:
    """Make a version that waits for its variants.

    Raises:
        BadNameError: A name is not well-formed, or the version is not semantic.
        VersionExistsError: It is there already.
        BlobMissingError: One of the blobs was not uploaded.
        VersionInputError: Slots, profiles, versions to return to or demands are not
            well-formed.
        LineageError: The lineage is not well-formed.
    """
    check_new(session, new.model, new.version)
    lineage = write_lineage(new.lineage)
    slots = _check_slots(new)
    _check_rollback(new)
    demands = _check_demands(new.demands)
    if not new.profiles:
        raise VersionInputError("no profile is named", "Name at least one to build for.")
    parts = {"master": new.master, "evaluation": new.evaluation}
    if new.calibration is not None:
        parts["calibration"] = new.calibration
    found = check_blobs(blobs, **parts)
    for blob in found.values():
        keep(session, blob, at_ms=now_ms)
    master = found["master"]
    if session.get(Model, new.model) is None:
        session.add(Model(name=new.model, created_by=actor, created_ms=now_ms))
        session.flush()
    row = ModelVersion(
        id=new_id(),
        model=new.model,
        version=new.version,
        state=State.BUILDING,
        master=master.digest,
        master_length=master.length,
        evaluation=new.evaluation,
        calibration=new.calibration or "",
        lineage=sha256(lineage),
        lineage_json=lineage.decode(),
        tensors_json=write(new.schema).decode(),
        slots_json=_json(slots),
        rollback_json=None if new.rollback_to is None else _json(list(new.rollback_to)),
        demands_json=demands.decode(),
        vouched_json=vouching.write_words(new.vouched),
        profiles_json=_json(list(dict.fromkeys(new.profiles))),
        created_by=actor,
        created_ms=now_ms,
    )
    session.add(row)
    session.flush()
    detail = {"id": row.id, "master": row.master, "lineage": row.lineage}
    audit.record(session, actor, "version.created", name_of(row), detail, at_ms=now_ms)
    return row


def get_version(session: Session, version_id: str) -> ModelVersion:
    """Return a version by its id.

    Raises:
        NotFoundError: There is none.
    """
    row = session.get(ModelVersion, version_id)
    if row is None:
        raise NotFoundError(f"there is no version with the id {version_id}")
    return row


def find_version(session: Session, model: str, version: str) -> ModelVersion | None:
    """Return a version by its name."""
    return session.exec(
        select(ModelVersion).where(
            ModelVersion.model == model, ModelVersion.version == version
        )
    ).first()


def require_version(session: Session, model: str, version: str) -> ModelVersion:
    """Return a version by its name.

    Raises:
        NotFoundError: There is none.
    """
    row = find_version(session, model, version)
    if row is None:
        raise NotFoundError(
            f"there is no version {version} of {model}",
            "See what there is: modelfleet release list.",
            model=model,
            version=version,
        )
    return row


def get_material(session: Session, version_id: str) -> Material:
    """Return what variants of a version are built from.

    Raises:
        NotFoundError: There is no such version.
    """
    row = get_version(session, version_id)
    return Material(row.master, row.evaluation, row.calibration or None)


def add_variant(
    session: Session, version_id: str, variant: Variant, *, at_ms: int
) -> VersionVariant:
    """Add a variant, in place of an older one for the same profile.

    Raises:
        NotFoundError: There is no such version.
        VersionStateError: It is not being built any more: what is proposed or signed
            never changes.
    """
    row = get_version(session, version_id)
    after(row.state, Event.FINISH)
    held = session.get(VersionVariant, (version_id, variant.profile))
    made = held or VersionVariant(
        version_id=version_id,
        profile=variant.profile,
        name="",
        digest="",
        variant_json="",
        created_ms=at_ms,
    )
    made.name, made.digest = variant.name, variant.digest
    made.variant_json, made.created_ms = write(variant).decode(), at_ms
    session.add(made)
    session.flush()
    return made


def variants_of(session: Session, version_id: str) -> list[Variant]:
    """Return the variants of a version, by profile, as its release states them."""
    rows = session.exec(
        select(VersionVariant)
        .where(VersionVariant.version_id == version_id)
        .order_by(col(VersionVariant.profile))
    )
    made = [msgspec.json.decode(row.variant_json, type=Variant) for row in rows]
    return vouching.state(get_version(session, version_id), made)


def name_of(row: ModelVersion) -> str:
    """Return what people call a version: `demo/digits@1.0.0`."""
    return f"{row.model}@{row.version}"


def slots_of(row: ModelVersion) -> list[str]:
    """Return the slots that may hold a version."""
    slots: list[str] = json.loads(row.slots_json)
    return slots


def _check_slots(new: NewVersion) -> list[str]:
    if new.slots is None:
        return [split_model(new.model)[1]]
    slots = list(dict.fromkeys(check_name(slot, "slot") for slot in new.slots))
    if not 0 < len(slots) <= MAX_SLOTS:
        raise VersionInputError(f"{len(slots)} slots are named", f"Name 1 to {MAX_SLOTS}.")
    return slots


def _check_rollback(new: NewVersion) -> None:
    versions = list(new.rollback_to or ())
    if len(versions) > MAX_ROLLBACK:
        raise VersionInputError(
            f"{len(versions)} versions to return to are named",
            f"At most {MAX_ROLLBACK} fit into a release.",
        )
    for version in versions:
        if not Version(version) < Version(new.version):
            raise VersionInputError(
                f"a device cannot return from {new.version} to {version}: it is not lower",
                "Name lower versions only.",
                version=version,
            )


def _check_demands(demands: Demands) -> bytes:
    data = write(demands)
    try:
        msgspec.json.decode(data, type=Demands)
    except (msgspec.ValidationError, ManifestError) as error:
        raise VersionInputError(f"the demands are not well-formed: {error}") from None
    return data


def _json(value: list[str]) -> str:
    return canonical(value).decode()
