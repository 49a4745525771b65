"""MQTT topics: where each document travels, and what a topic says of its address."""

from dataclasses import dataclass

PREFIX = "mf/v1"
TIMESTAMP = f"{PREFIX}/trust/timestamp"
RECALLS = f"{PREFIX}/trust/recalls"
EPOCH = f"{PREFIX}/epoch"
ALL_REPORTS = f"{PREFIX}/d/+/report"
ALL_TELEMETRY = f"{PREFIX}/d/+/telemetry"
ALL_PRESENCE = f"{PREFIX}/d/+/presence"

DEVICE_KINDS = frozenset(
    {"assignment", "report", "telemetry", "presence", "ack", "evaluation"}
)


@dataclass(frozen=True, slots=True)
class Address:
    """What a topic says: the kind of message, and for whom or from whom it is.

    Attributes:
        kind: `assignment`, `deployment`, `timestamp`, `recalls`, `report`, …
        device: The device id, or None.
        group: The group id, or None.
    """

    kind: str
    device: str | None = None
    group: str | None = None


def device_topic(device: str, kind: str) -> str:
    """Return the topic of one of `DEVICE_KINDS` of a device."""
    return f"{PREFIX}/d/{device}/{kind}"


def deployment_topic(group: str) -> str:
    """Return the topic of the deployment of the group with this id."""
    return f"{PREFIX}/g/{group}/deployment"


def parse_topic(topic: str) -> Address | None:
    """Return what `topic` says, or None where it is none of ours."""
    parts = topic.removeprefix(f"{PREFIX}/").split("/")
    match parts if topic.startswith(f"{PREFIX}/") else []:
        case ["d", device, kind] if kind in DEVICE_KINDS and device:
            return Address(kind, device=device)
        case ["g", group, "deployment"] if group:
            return Address("deployment", group=group)
        case ["trust", ("timestamp" | "recalls") as kind] | [("epoch") as kind]:
            return Address(kind)
        case _:
            return None
