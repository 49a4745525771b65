"""The assignment: for one device, who governs each of its slots."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from modelfleet_manifests.document import Body
from modelfleet_manifests.header import Counter, Header, Hex32, Hex64, Order
from modelfleet_manifests.release import Name, ReleaseRef
from modelfleet_manifests.selector import LABEL_KEY, LABEL_VALUE

MAX_SLOTS = 16
Labels = Annotated[
    dict[
        Annotated[str, Meta(pattern=LABEL_KEY)], Annotated[str, Meta(pattern=LABEL_VALUE)]
    ],
    Meta(max_length=32),
]


class Since(Body, kw_only=True, frozen=True):
    """The order of the oldest deployment that may be used."""

    epoch: Counter
    counter: Counter

    @property
    def order(self) -> Order:
        """As an order."""
        return Order(self.epoch, self.counter)


class ByGroup(Body, kw_only=True, frozen=True, tag="group", tag_field="by"):
    """The group's deployment decides, if it is not older than `since`."""

    group: Hex32
    since: Since


class ByPin(Body, kw_only=True, frozen=True, tag="pin", tag_field="by"):
    """This release, whatever a group says."""

    release: ReleaseRef


class ByHold(Body, kw_only=True, frozen=True, tag="hold", tag_field="by"):
    """Keep what runs."""


class ByRemove(Body, kw_only=True, frozen=True, tag="remove", tag_field="by"):
    """Uninstall."""


Governor = ByGroup | ByPin | ByHold | ByRemove


class Assignment(Body, kw_only=True, frozen=True):
    """The document. A slot that is absent is unmanaged: the device keeps it.

    Attributes:
        incarnation: How many times this device id has been enrolled.
        report_key: Fingerprint of the key that signs the device's reports.
        nonce: Comes back in reports, to show how fresh they are.
        echo: The challenge of a device that lost what it held; absent otherwise.
    """

    header: Header
    slots: Annotated[dict[Name, Governor], Meta(max_length=MAX_SLOTS)]
    labels: Labels
    incarnation: Counter
    report_key: Hex64
    nonce: Hex32
    echo: Hex32 | UnsetType = UNSET
