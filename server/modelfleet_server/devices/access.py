"""Devices as actors: the bearer token that each got at its enrolment."""

from sqlmodel import Session, select

from modelfleet_server.devices.domain import DeviceState
from modelfleet_server.devices.enrolment import hash_token
from modelfleet_server.devices.tables import Device
from modelfleet_server.kit.access import Actor, Credentials, Kind


def recognise_device(session: Session, shown: Credentials, *, now: int) -> Actor | None:
    """Return the device whose token is shown, None where it is no device's."""
    del now  # device tokens end with the enrolment, not by a date
    if shown.bearer is None:
        return None
    device = session.exec(
        select(Device).where(
            Device.token_hash == hash_token(shown.bearer),
            Device.state == DeviceState.ENROLLED,
        )
    ).first()
    return Actor(device.id, None, Kind.DEVICE) if device else None
