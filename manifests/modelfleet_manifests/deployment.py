"""The deployment: for one group, per slot a stack of steps, newest first."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from modelfleet_manifests.assignment import MAX_SLOTS, Labels, Since
from modelfleet_manifests.document import Body
from modelfleet_manifests.errors import LimitError
from modelfleet_manifests.header import Header, Hex32, Millis
from modelfleet_manifests.release import Name, ReleaseRef

MAX_STEPS = 8
MAX_ALL_STEPS = 32
MAX_LISTED = 64
ALL = "all"

Threshold = Annotated[str, Meta(pattern=r"^([0-9a-f]{16}|all)$")]


class Admit(Body, kw_only=True, frozen=True):
    """Who may run a step: the union of three sets, see `admission`.

    Attributes:
        salt: Drawn per rollout after the enrolment ids are fixed, 16 bytes.
        to: Buckets below this are admitted: 16 hexadecimal digits, or `all`.
        enrolments: Listed enrolment ids.
        labels: Devices with all of these labels; none admits nobody.
    """

    salt: Hex32
    to: Threshold
    enrolments: Annotated[list[Hex32], Meta(max_length=MAX_LISTED)]
    labels: Labels


class Paused(Body, kw_only=True, frozen=True, tag="paused", tag_field="when"):
    """Whoever has not begun waits."""


class Spread(
    Body,
    kw_only=True,
    frozen=True,
    tag="spread",
    tag_field="when",
    rename={"from_": "from"},
):
    """Devices begin between `start` and `end` (Unix ms), in the order of their buckets.

    Buckets below `from_` begin at once: they were admitted by the wave before.
    """

    from_: Threshold
    start: Millis
    end: Millis


class Tighten(Body, kw_only=True, frozen=True):
    """Stricter than the release's own demands; None leaves a demand as it is."""

    self_test_ms: int | None = None
    trial_ms: int | None = None
    trial_errors: int | None = None


class Step(Body, kw_only=True, frozen=True):
    """One layer: a release, whom it admits, and when they begin."""

    id: Hex32
    release: ReleaseRef
    admit: Admit
    begin: Paused | Spread | UnsetType = UNSET
    mode: Annotated[str, Meta(pattern="^active$")] = "active"
    gates: Tighten


class SlotSteps(Body, kw_only=True, frozen=True):
    """The stack of one slot, newest first; the first that admits a device decides."""

    steps: Annotated[list[Step], Meta(min_length=1, max_length=MAX_STEPS)]


class Left(Body, kw_only=True, frozen=True):
    """A device that left: an assignment of it older than `order` no longer counts."""

    enrolment: Hex32
    order: Since


class Deployment(Body, kw_only=True, frozen=True):
    """The document."""

    header: Header
    slots: Annotated[dict[Name, SlotSteps], Meta(max_length=MAX_SLOTS)]
    left: Annotated[list[Left], Meta(max_length=MAX_LISTED)]


def check_limits(slots: dict[str, SlotSteps], group: str) -> None:
    """Return if these slots fit into one deployment.

    Args:
        slots: Steps per slot.
        group: The group's human name, for the message.

    Raises:
        LimitError: Too many slots or steps; names the slot to move to another group.
    """
    if len(slots) > MAX_SLOTS:
        raise LimitError(
            f"group {group!r}", f"has {len(slots)} slots, at most {MAX_SLOTS} fit one group"
        )
    count = sum(len(slot.steps) for slot in slots.values())
    if count > MAX_ALL_STEPS:
        largest = max(slots, key=lambda name: len(slots[name].steps))
        raise LimitError(
            f"group {group!r}",
            f"has {count} steps, at most {MAX_ALL_STEPS} fit; move the slot {largest!r} to "
            "another group",
        )
