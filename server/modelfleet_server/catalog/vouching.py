"""How approvers are asked to convince themselves of a version's variants.

The release that is proposed states it for each variant, and approvers sign only what they
found themselves at least as good (`trust.vouching`). So what is signed is true, and nothing
of it changes after it was proposed: where a variant cannot be built again elsewhere, the
proposal is withdrawn and made again with the weaker word.
"""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.release import Variant
from modelfleet_server.catalog.tables import ModelVersion
from modelfleet_server.kit.errors import InvalidError

ALL = "*"
"""In place of a variant's name: all that are not named."""


class Vouched(StrEnum):
    """The words; each says more than those after it."""

    REBUILT = "rebuilt"
    AUDITED = "audited"
    WAIVED = "waived"


def write_words(words: Mapping[str, str]) -> str:
    """Return what is stored.

    Raises:
        InvalidError: One is no such word.
    """
    for variant, word in words.items():
        if word not in set(Vouched):
            raise InvalidError(
                f"{word!r} says nothing about {variant}", f"Say {', '.join(Vouched)}."
            )
    return canonical(dict(words)).decode()


def add_words(row: ModelVersion, words: Mapping[str, str]) -> None:
    """Let a version that is not proposed state other words.

    Raises:
        InvalidError: One is no such word.
    """
    row.vouched_json = write_words({**json.loads(row.vouched_json), **words})


def state(row: ModelVersion, variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants with what the release states of each."""
    words: dict[str, str] = json.loads(row.vouched_json)
    usual = words.get(ALL, Vouched.REBUILT)
    return [
        msgspec.structs.replace(one, vouched=str(words.get(one.name, usual)))
        for one in variants
    ]
