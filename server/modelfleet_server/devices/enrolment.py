"""How a device comes into the fleet and leaves it."""

import hashlib
import json
from dataclasses import dataclass

from sqlmodel import Session, col, delete, select

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.names import check_device
from modelfleet_manifests.profiles import FactValue, matching_profiles, read_facts
from modelfleet_manifests.selector import check_label
from modelfleet_manifests.topics import device_topic
from modelfleet_server.audit import service as audit
from modelfleet_server.bridge import outbox
from modelfleet_server.devices.assignments import assign
from modelfleet_server.devices.domain import DeviceState, proves
from modelfleet_server.devices.groups import leave_all, regroup
from modelfleet_server.devices.tables import (
    Claim,
    Device,
    DeviceLabel,
    HeldDocument,
    SlotState,
)
from modelfleet_server.kit.access import Actor, Kind
from modelfleet_server.kit.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
)
from modelfleet_server.kit.ids import new_id, new_secret
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.director import Director

CLAIM_LIFE_MS = 24 * 3600 * 1000


class ClaimError(UnauthorizedError):
    """The claim token does not let a device in."""

    code = "claim"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a device gets once, at enrolment. `token` is kept nowhere else."""

    device: Device
    token: str


def hash_token(token: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(token.encode()).hexdigest()


def create_claim(
    session: Session, device: str, labels: dict[str, str], actor: Actor, *, now_ms: int
) -> str:
    """Return a one-time token with which `device` may enrol within a day.

    Raises:
        InvalidError: The device id or a label breaks its grammar.
        ConflictError: The device is enrolled; it must be retired first.
    """
    _check_names(device, labels)
    held = session.get(Device, device)
    if held is not None and held.state is DeviceState.ENROLLED:
        raise ConflictError(
            f"device {device} is enrolled",
            f"Retire it first: modelfleet device retire {device}.",
            device=device,
        )
    token = new_secret()
    claim = Claim(
        token_hash=hash_token(token),
        device=device,
        labels_json=canonical(labels).decode(),
        created_by=str(actor),
        created_ms=now_ms,
        expires_ms=now_ms + CLAIM_LIFE_MS,
    )
    session.add(claim)
    audit.record(
        session, str(actor), "claim.created", device, {"labels": labels}, at_ms=now_ms
    )
    return token


@dataclass(frozen=True, slots=True)
class Proof:
    """What a device sends to enrol: a key, and the proof that it holds the private half."""

    token: str
    public_key: str
    proof: str
    facts: dict[str, FactValue]


def enrol(session: Session, director: Director, wish: Proof, *, now_ms: int) -> Enrolled:
    """Take a device in, and publish its first assignment.

    A device whose answer was lost asks again with the same token and key, and gets the same
    enrolment with a new bearer token.

    Raises:
        ClaimError: The token is unknown, used or expired, or the proof does not verify.
        InvalidError: A fact has another type than it should.
    """
    token = new_secret()
    repeated = _find_repeated(session, wish)
    if repeated is not None:
        repeated.token_hash = hash_token(token)
        session.add(repeated)
        return Enrolled(repeated, token)
    claim = _take_claim(session, wish, now_ms)
    held = session.get(Device, claim.device)
    device = held or Device(
        id=claim.device, enrolment="", state=DeviceState.ENROLLED, report_key="",
        token_hash="", nonce="", enrolled_ms=now_ms, incarnation=0,
    )  # fmt: skip
    device.state = DeviceState.ENROLLED
    device.enrolment, device.nonce = new_id(), new_id()
    device.incarnation += 1
    device.report_key, device.token_hash = wish.public_key, hash_token(token)
    # The chain of an earlier enrolment means nothing to this one.
    device.seq, device.chain, device.reported_ms = 0, "0" * 64, 0
    device.heard_ms, device.enrolled_ms, device.forks = now_ms, now_ms, 0
    device.facts_json = json.dumps(wish.facts)
    device.profile = _profile(wish.facts)
    session.add(device)
    session.flush()
    set_labels(session, device, json.loads(claim.labels_json))
    regroup(session, director, device, now_ms=now_ms)
    assign(session, director, [device], now_ms=now_ms)
    audit.record(
        session,
        str(Actor(device.id, None, Kind.DEVICE)),
        "device.enrolled",
        device.id,
        {
            "incarnation": device.incarnation,
            "key": PublicKey(wish.public_key).fingerprint,
        },
        at_ms=now_ms,
    )
    return Enrolled(device, token)


def retire(session: Session, device_id: str, actor: Actor, *, now_ms: int) -> Device:
    """Revoke a device's credentials and clear its retained topics; evidence stays.

    Raises:
        NotFoundError: There is no such device.
    """
    device = find_device(session, device_id)
    device.state = DeviceState.RETIRED
    device.token_hash = f"retired:{device.enrolment}"
    device.online = False
    session.add(device)
    leave_all(session, device)
    documents.clear(session, device_topic(device.id, "assignment"))
    outbox.put(session, device_topic(device.id, "presence"), b"")
    session.exec(delete(SlotState).where(col(SlotState.device) == device.id))
    session.exec(delete(HeldDocument).where(col(HeldDocument.device) == device.id))
    audit.record(session, str(actor), "device.retired", device.id, {}, at_ms=now_ms)
    return device


def find_device(session: Session, device_id: str) -> Device:
    """Return a device.

    Raises:
        NotFoundError: There is none with this id.
    """
    device = session.get(Device, device_id)
    if device is None:
        raise NotFoundError(
            f"there is no device {device_id!r}",
            "List them: modelfleet device list.",
            device=device_id,
        )
    return device


def labels_of(device: Device) -> dict[str, str]:
    """Return a device's labels."""
    labels: dict[str, str] = json.loads(device.labels_json)
    return labels


def set_labels(session: Session, device: Device, labels: dict[str, str]) -> None:
    """Give a device these labels in place of those it has; memberships come after."""
    _check_names(device.id, labels)
    device.labels_json = canonical(labels).decode()
    session.add(device)
    session.exec(delete(DeviceLabel).where(col(DeviceLabel.device) == device.id))
    for key, value in labels.items():
        session.add(DeviceLabel(device=device.id, key=key, value=value))
    session.flush()


def relabel(
    session: Session,
    director: Director,
    device_id: str,
    labels: dict[str, str],
    actor: Actor,
    *,
    now_ms: int,
) -> Device:
    """Change a device's labels, and with them its groups and its assignment."""
    device = find_device(session, device_id)
    before = labels_of(device)
    set_labels(session, device, labels)
    regroup(session, director, device, now_ms=now_ms)
    assign(session, director, [device], now_ms=now_ms)
    audit.record(
        session,
        str(actor),
        "device.relabelled",
        device.id,
        {"before": before, "after": labels},
        at_ms=now_ms,
    )
    return device


def _find_repeated(session: Session, wish: Proof) -> Device | None:
    """Return the device that this very token and key enrolled before."""
    claim = session.get(Claim, hash_token(wish.token))
    if claim is None or claim.used_ms is None:
        return None
    device = session.get(Device, claim.device)
    same = (
        device is not None
        and device.state is DeviceState.ENROLLED
        and device.report_key == wish.public_key
        and device.enrolled_ms == claim.used_ms
    )
    return device if same and proves(wish.token, wish.public_key, wish.proof) else None


def _take_claim(session: Session, wish: Proof, now_ms: int) -> Claim:
    claim = session.get(Claim, hash_token(wish.token))
    ask = "Ask an operator for a new one: modelfleet device claim DEVICE."
    if claim is None:
        raise ClaimError("the claim token is not known here", ask)
    if claim.used_ms is not None:
        raise ClaimError(f"the claim token of {claim.device} was used already", ask)
    if claim.expires_ms <= now_ms:
        raise ClaimError(f"the claim token of {claim.device} has expired", ask)
    held = session.exec(select(Device).where(Device.id == claim.device)).first()
    if held is not None and held.state is DeviceState.ENROLLED:
        raise ClaimError(f"device {claim.device} is enrolled already", ask)
    if not proves(wish.token, wish.public_key, wish.proof):
        raise ClaimError(
            "the proof of possession does not verify",
            "The device must sign with the private half of the key it sends.",
        )
    claim.used_ms = now_ms
    session.add(claim)
    return claim


def _check_names(device: str, labels: dict[str, str]) -> None:
    try:
        check_device(device)
        for key, value in labels.items():
            check_label(key, value)
    except ManifestError as error:
        raise InvalidError(str(error), device=device) from None


def _profile(facts: dict[str, FactValue]) -> str:
    try:
        return matching_profiles(read_facts(facts))[0]
    except ManifestError as error:
        raise InvalidError(str(error)) from None
