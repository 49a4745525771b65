"""What the trust slice keeps: signed metadata, signed documents, and proposals.

Signed bytes are kept as they were signed and never made again from their parts.
"""

from typing import Any, ClassVar

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words
from modelfleet_server.trust.domain import Kind, State


class TrustMetadata(SQLModel, table=True):
    """One version of one role's signed metadata; the highest version is in force.

    Attributes:
        role: `root`, `timestamp`, …, or a delegated role such as `demo/digits`.
        data: The file, as served.
    """

    __tablename__ = "trust_metadata"

    role: str = Field(primary_key=True, max_length=127)
    version: int = Field(primary_key=True, sa_type=BigInt)
    data: bytes
    digest: str = Field(max_length=64)
    created_ms: int = Field(sa_type=BigInt)
    expires_ms: int = Field(sa_type=BigInt)


class TrustTarget(SQLModel, table=True):
    """The bytes of a target that some metadata lists, by path and SHA-256."""

    __tablename__ = "trust_target"

    path: str = Field(primary_key=True, max_length=255)
    digest: str = Field(primary_key=True, max_length=64)
    data: bytes
    created_ms: int = Field(sa_type=BigInt)


class DirectorDocument(SQLModel, table=True):
    """One document that the director signed; rows are never changed.

    Attributes:
        payload_digest: What devices report that they hold.
        envelope: The signed bytes.
    """

    __tablename__ = "director_document"
    __table_args__: ClassVar[Any] = (UniqueConstraint("topic", "epoch", "counter"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInt)
    topic: str = Field(max_length=255)
    epoch: int = Field(sa_type=BigInt)
    counter: int = Field(sa_type=BigInt)
    payload_digest: str = Field(max_length=64)
    envelope: bytes
    issued_ms: int = Field(sa_type=BigInt)
    expires_ms: int = Field(sa_type=BigInt)


class DirectorTopic(SQLModel, table=True):
    """What is in force on a topic; the row outlives a cleared topic, for the counter.

    Attributes:
        epoch: Of the last document that was signed for this topic.
        counter: Of that document; the next is higher.
        document: In force, None where the topic is cleared.
        renew_ms: When the document is to be signed anew, None where there is none.
    """

    __tablename__ = "director_topic"

    topic: str = Field(primary_key=True, max_length=255)
    epoch: int = Field(sa_type=BigInt)
    counter: int = Field(sa_type=BigInt)
    document: int | None = Field(
        default=None, foreign_key="director_document.id", sa_type=BigInt
    )
    renew_ms: int | None = Field(default=None, sa_type=BigInt, index=True)


class Proposal(SQLModel, table=True):
    """A change of the trust metadata that waits for signatures.

    Attributes:
        title: What it does, in words.
        subject: What it is about: `demo/digits@1.0.0`, or what is revoked.
    """

    __tablename__ = "trust_proposal"

    id: str = Field(primary_key=True, max_length=32)
    kind: Kind = Field(sa_type=words(Kind))
    state: State = Field(sa_type=words(State))
    title: str = Field(max_length=500)
    subject: str = Field(max_length=255, index=True)
    proposed_by: str = Field(max_length=200)
    created_ms: int = Field(sa_type=BigInt, index=True)
    closed_ms: int | None = Field(default=None, sa_type=BigInt)


class ProposalRole(SQLModel, table=True):
    """A role's next metadata, without signatures.

    Attributes:
        place: Delegating roles come before those that they delegate.
        payload: Canonical JSON of the signed part: exactly what is signed.
    """

    __tablename__ = "trust_proposal_role"

    proposal: str = Field(primary_key=True, max_length=32, foreign_key="trust_proposal.id")
    role: str = Field(primary_key=True, max_length=127)
    place: int
    version: int = Field(sa_type=BigInt)
    payload: bytes


class ProposalSignature(SQLModel, table=True):
    """A signature that was verified when it was attached."""

    __tablename__ = "trust_proposal_signature"
    __table_args__: ClassVar[Any] = (
        ForeignKeyConstraint(
            ["proposal", "role"],
            ["trust_proposal_role.proposal", "trust_proposal_role.role"],
        ),
        Index("ix_trust_proposal_signature_actor", "actor"),
    )

    proposal: str = Field(primary_key=True, max_length=32)
    role: str = Field(primary_key=True, max_length=127)
    key_id: str = Field(primary_key=True, max_length=64)
    signature: str = Field(max_length=128)
    actor: str = Field(max_length=200)
    signed_ms: int = Field(sa_type=BigInt)


class ProposalTarget(SQLModel, table=True):
    """The bytes of a target that the proposal would list."""

    __tablename__ = "trust_proposal_target"

    proposal: str = Field(primary_key=True, max_length=32, foreign_key="trust_proposal.id")
    path: str = Field(primary_key=True, max_length=255)
    data: bytes
