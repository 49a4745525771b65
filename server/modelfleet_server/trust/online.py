"""The keys beside the server: snapshot, timestamp, director and time.

They choose among what the approvers signed, and say how fresh that is. One seed each, so
that one can be replaced without the others.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from tuf.api.metadata import Metadata, Snapshot, Timestamp

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import KEY_BYTES, PrivateKey, PublicKey
from modelfleet_manifests.tuf_keys import NaclSigner
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


class OnlineSigner:
    """Signs snapshot and timestamp, and nothing else."""

    def __init__(self, keys: OnlineKeys) -> None:
        self._snapshot = NaclSigner(keys.snapshot)
        self._timestamp = NaclSigner(keys.timestamp)

    def sign_snapshot(self, snapshot: Snapshot) -> bytes:
        """Return the signed file."""
        metadata = Metadata(snapshot)
        metadata.sign(self._snapshot)
        return metadata.to_bytes()

    def sign_timestamp(self, timestamp: Timestamp) -> bytes:
        """Return the signed file."""
        metadata = Metadata(timestamp)
        metadata.sign(self._timestamp)
        return metadata.to_bytes()
