"""The keys beside the server: snapshot, timestamp, director and time.

They choose among what the approvers signed, and say how fresh that is. One seed each, so
that one can be replaced without the others. Only the `signer`, and whoever begins a fleet
or adds keys, opens these files.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import KEY_BYTES, PrivateKey, PublicKey
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust.secretfile import read_secret, write_secret

FORMAT = "modelfleet-online-keys-0"


@dataclass(frozen=True, slots=True)
class OnlineKeys:
    """Private keys, one per role."""

    snapshot: PrivateKey
    timestamp: PrivateKey
    director: PrivateKey
    time: PrivateKey

    @classmethod
    def generate(cls) -> "OnlineKeys":
        """Return new keys."""
        return cls(**{one.name: PrivateKey.generate() for one in fields(cls)})

    def public(self) -> dict[str, PublicKey]:
        """Return the public keys by role."""
        return {one.name: getattr(self, one.name).public for one in fields(self)}


class Online(NamedTuple):
    """What the online key file holds: the fleet's id, and the keys made for it."""

    fleet: str
    keys: OnlineKeys


def write_online(path: Path, online: Online) -> None:
    """Create the key file, mode 0600, not encrypted: the server must start unattended.

    Raises:
        ConflictError: The file exists.
    """
    keys = online.keys
    seeds = {one.name: getattr(keys, one.name).seed.hex() for one in fields(keys)}
    data = json.dumps({"format": FORMAT, "fleet": online.fleet, **seeds}, indent=1)
    write_secret(path, data.encode() + b"\n")


def read_online(path: Path) -> Online:
    """Return what the file at `path` holds.

    Raises:
        NotFoundError: There is none.
        InvalidError: It is not such a file, or others may read it.
    """
    data = read_secret(path)
    try:
        value = json.loads(data)
        if value.pop("format") != FORMAT:
            raise ValueError("another format")  # noqa: TRY301
        fleet = value.pop("fleet")
        if not is_digest(fleet):
            raise ValueError("no fleet")  # noqa: TRY301
        keys = OnlineKeys(**{name: _read_seed(text) for name, text in value.items()})
    except (ValueError, KeyError, TypeError, AttributeError, ManifestError):
        raise InvalidError(
            f"{path} is not a file of online keys",
            "Restore keys/online.key from where you keep it.",
            path=str(path),
        ) from None
    return Online(fleet, keys)


def _read_seed(text: str) -> PrivateKey:
    seed = bytes.fromhex(text)
    if len(seed) != KEY_BYTES:
        raise ValueError("not a seed")
    return PrivateKey(seed)


def read_rings(path: Path) -> list[Online]:
    """Return the key files beside `path`, newest first; `online.key` is the oldest.

    Raises:
        NotFoundError: There is none.
        InvalidError: One is not such a file, or others may read it.
    """
    rings = [read_online(path)]
    while (following := _numbered(path, len(rings) + 1)).exists():
        rings.append(read_online(following))
    return rings[::-1]


def add_ring(path: Path, roles: Collection[str]) -> dict[str, PublicKey]:
    """Write the next key file, with new keys for `roles` and the others as they are.

    Nothing signs with them before the officers name them; then the server that has the
    file picks them by itself. The older files stay: they are never overwritten.

    Args:
        path: Of the first key file.
        roles: Of `snapshot`, `timestamp`, `director` and `time`.

    Returns:
        The new public keys by role.

    Raises:
        InvalidError: A role is none of these, or the newest file is not in order.
    """
    names = {one.name for one in fields(OnlineKeys)}
    strange = sorted(set(roles) - names)
    if strange or not roles:
        raise InvalidError(
            f"no online key signs {strange[0] if strange else 'nothing'!r}",
            f"Name some of: {', '.join(sorted(names))}.",
        )
    rings = read_rings(path)
    fresh = {role: PrivateKey.generate() for role in sorted(roles)}
    write_online(
        _numbered(path, len(rings) + 1),
        Online(rings[0].fleet, replace(rings[0].keys, **fresh)),
    )
    return {role: key.public for role, key in fresh.items()}


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}")
