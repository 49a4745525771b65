"""What every document of the director begins with, and how documents are ordered."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from modelfleet_manifests.canonical import MAX_INTEGER
from modelfleet_manifests.digests import HEX32, HEX64
from modelfleet_manifests.errors import (
    AddressError,
    EquivocationError,
    FormatError,
    OrderError,
)
from modelfleet_manifests.names import DEVICE
from modelfleet_manifests.topics import Address

VERSION = 0
# What this code understands beyond the base; a document that needs more is not acted on.
FEATURES: frozenset[str] = frozenset()

Counter = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Millis = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Hex64 = Annotated[str, Meta(pattern=HEX64)]
Hex32 = Annotated[str, Meta(pattern=HEX32)]
DeviceId = Annotated[str, Meta(pattern=DEVICE)]
Feature = Annotated[str, Meta(max_length=63)]


class Order(NamedTuple):
    """The place of a document among those of its topic: the higher one holds."""

    epoch: int
    counter: int


class Minimum(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lowest versions of the trust metadata that a device must have seen."""

    root: Counter = 0
    timestamp: Counter = 0
    snapshot: Counter = 0
    targets: Counter = 0

    def is_met_by(self, seen: "Minimum") -> bool:
        """Say whether a device that has seen `seen` may act on the document."""
        return all(
            getattr(seen, name) >= getattr(self, name) for name in self.__struct_fields__
        )


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The header; all fields are required, device and enrolment xor group.

    Times are Unix milliseconds. Fields that this version does not know are tolerated here
    only so that such a document can be ordered; `unknown_feature` tells of them.
    """

    type: str
    v: Counter
    needs: Annotated[list[Feature], Meta(max_length=16)]
    fleet: Hex64
    epoch: Counter
    counter: Counter
    issued: Millis
    expires: Millis
    min: Minimum
    device: DeviceId | UnsetType = UNSET
    enrolment: Hex32 | UnsetType = UNSET
    group: Hex32 | UnsetType = UNSET

    @property
    def order(self) -> Order:
        """Place among the documents of the topic."""
        return Order(self.epoch, self.counter)


def read_header(payload: Mapping[str, Any], what: str) -> Header:
    """Return the header of a parsed payload.

    Raises:
        FormatError: It is missing, or a field is.
    """
    try:
        header = msgspec.convert(payload.get("header"), Header)
    except msgspec.ValidationError as error:
        raise FormatError(what, f"header: {error}") from None
    if (header.group is UNSET) == (header.device is UNSET):
        raise FormatError(what, "header: names either a device or a group")
    if (header.device is UNSET) != (header.enrolment is UNSET):
        raise FormatError(what, "header: device and enrolment go together")
    return header


def is_understood(header: Header) -> bool:
    """Say whether a header without fields that are unknown can be acted on."""
    one = (header.group is UNSET) != (header.device is UNSET)
    together = (header.device is UNSET) == (header.enrolment is UNSET)
    return one and together and header.v == VERSION and FEATURES.issuperset(header.needs)


def unknown_feature(payload: Mapping[str, Any], header: Header) -> str | None:
    """Return what of the header this version cannot honour, or None."""
    if header.v != VERSION:
        return f"version {header.v}"
    missing = sorted(set(header.needs) - FEATURES)
    if missing:
        return missing[0]
    strange = sorted(set(payload["header"]) - set(Header.__struct_fields__))
    return f"header.{strange[0]}" if strange else None


def check_address(
    header: Header, address: Address, *, fleet: str, enrolment: str | None = None
) -> None:
    """Return if a document with this header belongs where it came from.

    Args:
        header: Of a verified document.
        address: Of the topic it came by.
        fleet: SHA-256 of the fleet's first root.
        enrolment: The device's own enrolment id; None on the server.

    Raises:
        AddressError: Another type, fleet, device, enrolment or group.
    """
    what = f"{address.kind} document"
    if header.type != address.kind:
        raise AddressError(what, f"is a {header.type}")
    if header.fleet != fleet:
        raise AddressError(what, "is of another fleet")
    if (header.device or None) != address.device or (header.group or None) != address.group:
        raise AddressError(what, "is for another device or group")
    if (
        enrolment is not None
        and header.device is not UNSET
        and header.enrolment != enrolment
    ):
        raise AddressError(what, "is for another enrolment of this device")


def check_order(
    new: Order, new_digest: str, held: Order | None, held_digest: str | None, what: str
) -> bool:
    """Say whether the new document replaces the held one; an identical one does not.

    Raises:
        OrderError: It is older.
        EquivocationError: It claims the same order with another payload.
    """
    if held is None or new > held:
        return True
    if new < held:
        raise OrderError(what, f"order {tuple(new)} is older than {tuple(held)}")
    if new_digest != held_digest:
        raise EquivocationError(what, f"order {tuple(new)} was used for another payload")
    return False
