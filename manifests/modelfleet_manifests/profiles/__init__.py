"""Classes of hardware: which profiles a device fits, and which variant suits it best.

A profile is a YAML file in this folder; a device fits several, from the most specific to
`generic`. Devices do not read these files: `table` holds the detection rules of all of
them as Python, made from them by `tools/compile_profiles.py`.

| module       | gives                                                              |
|--------------|--------------------------------------------------------------------|
| `facts`      | what a device is                                                   |
| `detection`  | the words of a detection rule, and when a device fits              |
| `table`      | the rules of the shipped profiles, most specific first             |
| `recipe`     | the steps that a variant may be made by (server only)              |
| `definition` | a whole profile file and its published schema (server only)        |
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from modelfleet_manifests.profiles.facts import Facts, FactValue, read_facts, write_facts
from modelfleet_manifests.profiles.table import EXPORT_ONLY, PROFILES

__all__ = [
    "EXPORT_ONLY",
    "PROFILES",
    "FactValue",
    "Facts",
    "Fitting",
    "best_variant",
    "matching_profiles",
    "read_facts",
    "write_facts",
]


class Fitting(Protocol):
    """What the choice needs to know of a variant."""

    @property
    def profile(self) -> str:
        """The profile that it was made for."""

    @property
    def opset(self) -> int:
        """The opset that the runtime must load."""

    @property
    def providers(self) -> list[str]:
        """Execution providers that must be there; none for the CPU."""


V = TypeVar("V", bound=Fitting)


def matching_profiles(facts: Facts) -> list[str]:
    """Return the profiles that `facts` fit, most specific first; never empty."""
    return [name for name, rule in PROFILES.items() if rule.fits(facts)]


def best_variant(facts: Facts, variants: Iterable[V]) -> V | None:
    """Return the variant that suits the device best, or None where none does."""
    usable = {
        variant.profile: variant
        for variant in reversed(list(variants))
        if variant.opset <= facts.opset and set(variant.providers) <= set(facts.providers)
    }
    return next((usable[name] for name in matching_profiles(facts) if name in usable), None)
