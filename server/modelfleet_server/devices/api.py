"""Routes for devices, claims and groups."""

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.profiles import FactValue
from modelfleet_manifests.selector import parse_selector
from modelfleet_server.devices import enrolment, groups
from modelfleet_server.devices.enrolment import Proof
from modelfleet_server.devices.tables import Device, DeviceLabel, Group, Member, SlotState
from modelfleet_server.kit.access import OperatorDep, ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep, WriteDep, given
from modelfleet_server.kit.endpoints import Endpoints
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.kit.paging import Page, PageDep, fetch_page
from modelfleet_server.trust import store as trust_store
from modelfleet_server.trust.director import Director

router = APIRouter(prefix="/api/v1", tags=["devices"])
DirectorDep = Annotated[Director, Depends(given(Director))]
EndpointsDep = Annotated[Endpoints, Depends(given(Endpoints))]


class ClaimIn(BaseModel):
    """A wish for a claim token."""

    device: str
    labels: dict[str, str] = Field(default_factory=dict)


class ClaimOut(BaseModel):
    """The token, shown once."""

    device: str
    token: str
    expires_ms: int


class EnrolIn(BaseModel):
    """What a device sends to enrol, see docs/protocol.md."""

    token: str = Field(max_length=200)
    public_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    proof: str = Field(pattern=r"^[0-9a-f]{128}$")
    facts: dict[str, FactValue] = Field(default_factory=dict, max_length=64)


class MqttOut(BaseModel):
    """Where the broker listens."""

    host: str
    port: int


class EnrolOut(BaseModel):
    """What the device keeps; `token` is shown once."""

    device: str
    enrolment: str
    incarnation: int
    fleet: str
    root: str
    token: str
    mqtt: MqttOut
    report_key: str


class SlotOut(BaseModel):
    """What a device last reported of a slot."""

    slot: str
    phase: str
    action: str
    reason: str
    detail: str
    model: str | None
    version: str | None
    variant: str | None
    release: str | None
    digest: str | None
    intact: bool
    wanted: str | None
    step: str | None
    failures: int
    fetched_bytes: int
    method: str
    reported_ms: int


class DeviceOut(BaseModel):
    """A device and its twin."""

    id: str
    state: str
    incarnation: int
    profile: str
    labels: dict[str, str]
    facts: dict[str, FactValue]
    online: bool
    enrolled_ms: int
    reported_ms: int
    groups: list[str]
    slots: list[SlotOut]
    errors: list[str]


class LabelsIn(BaseModel):
    """All labels of a device, in place of those it has."""

    labels: dict[str, str]


@router.post("/devices/claims", status_code=201)
def post_claim(
    wish: ClaimIn, session: WriteDep, actor: OperatorDep, now: NowDep
) -> ClaimOut:
    """Make a one-time token with which a device enrols within a day."""
    token = enrolment.create_claim(session, wish.device, wish.labels, actor, now_ms=now)
    return ClaimOut(
        device=wish.device, token=token, expires_ms=now + enrolment.CLAIM_LIFE_MS
    )


@router.post("/enrol", status_code=201)
def post_enrolment(
    wish: EnrolIn,
    session: WriteDep,
    director: DirectorDep,
    endpoints: EndpointsDep,
    now: NowDep,
) -> EnrolOut:
    """Enrol a device: the claim token lets it in, the proof shows that it has the key."""
    done = enrolment.enrol(
        session,
        director,
        Proof(wish.token, wish.public_key, wish.proof, wish.facts),
        now_ms=now,
    )
    root = trust_store.find(session, "root", 1)
    if root is None:
        raise InvalidError("this server has no fleet", "Run modelfleet init first.")
    return EnrolOut(
        device=done.device.id,
        enrolment=done.device.enrolment,
        incarnation=done.device.incarnation,
        fleet=director.fleet,
        root=root.data.decode(),
        token=done.token,
        mqtt=MqttOut(host=endpoints.mqtt_host, port=endpoints.mqtt_port),
        report_key=PublicKey(done.device.report_key).fingerprint,
    )


@router.get("/devices")
def get_devices(
    session: ReadDep,
    _actor: ViewerDep,
    ask: PageDep,
    selector: Annotated[str | None, Query(max_length=1000)] = None,
    group: Annotated[str | None, Query(max_length=63)] = None,
) -> Page[DeviceOut]:
    """List devices by id; `selector` and `group` narrow the list."""
    statement = select(Device)
    if group is not None:
        found = groups.find_group(session, group)
        members = select(Member.device).where(Member.group_id == found.id)
        statement = statement.where(col(Device.id).in_(members))
    if selector is not None:
        statement = statement.where(col(Device.id).in_(_ids_matching(session, selector)))
    rows, cursor = fetch_page(session, statement, [Device.id], ask)
    return Page(items=[_device(session, row) for row in rows], next=cursor)


@router.get("/devices/{device_id}")
def get_device(device_id: str, session: ReadDep, _actor: ViewerDep) -> DeviceOut:
    """Show one device."""
    return _device(session, enrolment.find_device(session, device_id))


@router.put("/devices/{device_id}/labels")
def put_labels(
    device_id: str,
    wish: LabelsIn,
    session: WriteDep,
    actor: OperatorDep,
    director: DirectorDep,
    now: NowDep,
) -> DeviceOut:
    """Replace a device's labels; its groups and its assignment follow."""
    device = enrolment.relabel(session, director, device_id, wish.labels, actor, now_ms=now)
    return _device(session, device)


@router.post("/devices/{device_id}/retire")
def post_retirement(
    device_id: str, session: WriteDep, actor: OperatorDep, now: NowDep
) -> DeviceOut:
    """Revoke a device's credentials and clear its topics; its evidence stays."""
    return _device(session, enrolment.retire(session, device_id, actor, now_ms=now))


def _ids_matching(session: Session, selector: str) -> list[str]:
    try:
        parsed = parse_selector(selector)
    except ManifestError as error:
        raise InvalidError(str(error)) from None
    labels: dict[str, dict[str, str]] = {one: {} for one in session.exec(select(Device.id))}
    for row in session.exec(select(DeviceLabel)):
        labels.setdefault(row.device, {})[row.key] = row.value
    return [device for device, them in labels.items() if parsed.matches(them)]


def _device(session: Session, device: Device) -> DeviceOut:
    names = session.exec(
        select(Group.name)
        .join(Member, col(Member.group_id) == col(Group.id))
        .where(Member.device == device.id)
        .order_by(col(Group.name))
    )
    slots = session.exec(
        select(SlotState).where(SlotState.device == device.id).order_by(col(SlotState.slot))
    )
    return DeviceOut(
        id=device.id,
        state=device.state,
        incarnation=device.incarnation,
        profile=device.profile,
        labels=enrolment.labels_of(device),
        facts=json.loads(device.facts_json),
        online=device.online,
        enrolled_ms=device.enrolled_ms,
        reported_ms=device.reported_ms,
        groups=list(names),
        slots=[SlotOut.model_validate(row, from_attributes=True) for row in slots],
        errors=json.loads(device.errors_json),
    )
