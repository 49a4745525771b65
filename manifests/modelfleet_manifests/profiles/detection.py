"""Detection rules as data: profiles are files, and a device needs no reader for them."""

from typing import Annotated

import msgspec
from msgspec import Meta

from modelfleet_manifests.profiles.facts import Facts

Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._ -]{1,63}$")]
Words = Annotated[list[Word], Meta(max_length=32)]


class Detect(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """When a device fits: every field that is not empty must hold.

    Attributes:
        arch: Its machine name is one of these.
        cpu_all: It has all of these CPU features.
        cpu_any: It has at least one of these.
        cpu_none: It has none of these. `u8s8_saturates` is not the kernel's word but the
            finding of a probe: products of bytes are clipped at 16 bits.
        jetson: Its Jetson Linux release begins with one of these.
        soc: Its board's name contains one of these, in any letter case.
    """

    arch: Words = []
    cpu_all: Words = []
    cpu_any: Words = []
    cpu_none: Words = []
    jetson: Words = []
    soc: Words = []

    def fits(self, facts: Facts) -> bool:
        """Say whether a device with `facts` fits; an empty rule fits every device."""
        board = facts.soc.lower()
        return (
            (not self.arch or facts.arch in self.arch)
            and set(self.cpu_all) <= set(facts.cpu)
            and (not self.cpu_any or not set(self.cpu_any).isdisjoint(facts.cpu))
            and set(self.cpu_none).isdisjoint(facts.cpu)
            and (not self.jetson or facts.jetson.startswith(tuple(self.jetson)))
            and (not self.soc or any(part.lower() in board for part in self.soc))
        )
