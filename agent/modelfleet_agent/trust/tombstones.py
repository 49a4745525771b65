"""Messages that carry the roles `revocations` and `stops`; pardons. Runs in the child."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets
from tuf.api.serialization import DeserializationError

from modelfleet_agent.trust.checks import check_json
from modelfleet_agent.trust.state import Signers
from modelfleet_manifests.canonical import parse
from modelfleet_manifests.errors import FormatError, ManifestError
from modelfleet_manifests.recalls import ACTIONS, names_of
from modelfleet_manifests.tuf_keys import NaclKey

MAX_MESSAGE = 256 * 1024


@dataclass
class Message:
    """A `trust/recalls` message, judged.

    Attributes:
        named: By role, what the tombstones of a file that verified name.
        faults: What was wrong with the others, in words.
    """

    named: dict[str, set[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_pardons(field: object) -> tuple[dict[str, list[str]], list[str]]:
    """Return what officers took off the lists (`x-unrevoke`), by role, and what is strange.

    Args:
        field: A list of the tombstones' paths, as far as it is well-formed.
    """
    if not isinstance(field, list) or not all(isinstance(one, str) for one in field):
        return {}, [repr(field)[:80]]
    pardons = {role: sorted(names_of(role, field)[0]) for role in ACTIONS}
    known = {path for path in field if any(names_of(role, [path])[0] for role in ACTIONS)}
    return pardons, [path for path in field if path not in known]


def read_message(payload: bytes, recallers: Mapping[str, Signers]) -> Message:
    """Return what a message names, as far as the keys of verified targets signed it.

    Neither version nor expiry is looked at: an authentic file may only add.

    Raises:
        FormatError, SizeError: It is no such message at all.
    """
    value = parse(payload, what="recalls", cap=MAX_MESSAGE)
    if not isinstance(value, dict) or set(value) != set(ACTIONS):
        raise FormatError("recalls", "are not {revocations, stops}")
    message = Message()
    for role, text in value.items():
        try:
            named, strange = _verify(role, text, recallers[role])
        except (RepositoryError, ManifestError, DeserializationError) as error:
            message.faults.append(f"{role}: {error}")
            continue
        message.named[role] = named
        message.faults += [f"{path} is not understood" for path in strange]
    return message


def _verify(role: str, text: object, signers: Signers) -> tuple[set[str], list[str]]:
    data = _decode(text, role)
    check_json(data, role)
    metadata: Metadata[Targets] = Metadata.from_bytes(data)
    if not isinstance(metadata.signed, Targets):
        raise FormatError(role, f"is metadata of type {metadata.signed.type}")
    _delegator(role, signers).verify_delegate(
        role, metadata.signed_bytes, metadata.signatures
    )
    return names_of(role, metadata.signed.targets)


def _delegator(role: str, signers: Signers) -> Targets:
    """The part of the verified targets that says who signs `role`."""
    delegated = DelegatedRole(role, [], signers.threshold, terminating=True, paths=[])
    targets = Targets(delegations=Delegations({}, {role: delegated}))
    for key_id, key in signers.keys.items():
        # under the id that the officers gave it: it need not be the usual digest
        targets.add_key(NaclKey(key_id, "ed25519", "ed25519", {"public": key}), role)
    return targets


def _decode(text: object, role: str) -> bytes:
    try:
        raw = base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(role, "is broken base64") from None
    if base64.b64encode(raw).decode() != text:
        raise FormatError(role, "is base64 with another encoding")
    return raw
