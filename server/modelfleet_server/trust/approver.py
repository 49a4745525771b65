"""The approvers' key file. It stays with its owner: the server never reads one.

The seeds are sealed by a passphrase (Argon2id, then XSalsa20-Poly1305). The public keys
stand beside them in the clear, so that a file can be told from another without opening it.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox
from nacl.utils import random as random_bytes

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import KEY_BYTES, PrivateKey, PublicKey
from modelfleet_server.kit.errors import InvalidError, UnauthorizedError
from modelfleet_server.trust.secretfile import read_secret, write_secret

FORMAT = "modelfleet-approver-keys-0"
ROLES = ("root", "targets", "namespaces", "revocations", "stops")
MIN_PASSPHRASE = 8
UNBOUND = "0" * 64
"""The fleet in a key file that was made before its fleet began."""
MAX_MEMORY = 1 << 30
MAX_PASSES = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What guessing a passphrase costs: passes over so many bytes of memory."""

    passes: int = argon2id.OPSLIMIT_MODERATE
    memory: int = argon2id.MEMLIMIT_MODERATE


class WrongPassphraseError(UnauthorizedError):
    """The key file does not open with this passphrase."""

    code = "wrong-passphrase"


class SigningKey(Protocol):
    """Signs, wherever the private key is: in a file of ours, or see `outside`."""

    @property
    def public(self) -> PublicKey:
        """What verifies the signatures."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""


@dataclass(frozen=True, slots=True)
class ApproverKeys:
    """Keys that sign, by role, and the fleet that they were made for."""

    fleet: str
    by_role: Mapping[str, SigningKey]

    @classmethod
    def generate(cls) -> dict[str, PrivateKey]:
        """Return a new key for each of `ROLES`."""
        return {role: PrivateKey.generate() for role in ROLES}


@dataclass(frozen=True, slots=True)
class PublicPart:
    """What a key file says without being opened. Nothing vouches for it."""

    fleet: str
    keys: Mapping[str, PublicKey]


def check_passphrase(passphrase: str) -> None:
    """Return if this may protect a key file.

    Raises:
        InvalidError: It is too short.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise InvalidError(
            f"the passphrase is shorter than {MIN_PASSPHRASE} characters",
            "Take a few words that nobody else would put together.",
        )


def write_approver(
    path: Path, keys: ApproverKeys, passphrase: str, cost: Cost | None = None
) -> None:
    """Create an encrypted key file, mode 0600.

    Raises:
        ConflictError: The file exists.
        InvalidError: The passphrase is too short.
    """
    check_passphrase(passphrase)
    cost = cost or Cost()
    salt = random_bytes(argon2id.SALTBYTES)
    seeds = {role: _seed_of(role, key) for role, key in keys.by_role.items()}
    inner = json.dumps({"fleet": keys.fleet, "seeds": seeds}).encode()
    box = SecretBox(_derive(passphrase, salt, cost)).encrypt(inner)
    outer = {
        "format": FORMAT,
        "fleet": keys.fleet,
        "public": {role: key.public.hex for role, key in keys.by_role.items()},
        "kdf": {
            "name": "argon2id",
            "salt": base64.b64encode(salt).decode(),
            "passes": cost.passes,
            "memory": cost.memory,
        },
        "box": base64.b64encode(bytes(box)).decode(),
    }
    write_secret(path, json.dumps(outer, indent=1).encode() + b"\n")


def bind_approver(
    path: Path, keys: ApproverKeys, passphrase: str, cost: Cost | None = None
) -> None:
    """Write a key file that was not bound to a fleet again, now bound to one.

    The new file is whole beside the old one before it takes its place.

    Raises:
        InvalidError: The file belongs to a fleet already, or has other keys.
    """
    said = read_public(path)
    if said.fleet not in {UNBOUND, keys.fleet} or said.keys != {
        role: key.public for role, key in keys.by_role.items()
    }:
        raise InvalidError(f"{path} belongs to another fleet or person", path=str(path))
    draft = path.with_name(f".{path.name}.bound")
    draft.unlink(missing_ok=True)
    write_approver(draft, keys, passphrase, cost)
    draft.replace(path)


def read_public(path: Path) -> PublicPart:
    """Return whose file this says it is, without opening it.

    Raises:
        NotFoundError: There is none.
        InvalidError: It is not a key file, or others may read it.
    """
    return _public_part(_read_outer(path), path)


def open_approver(path: Path, passphrase: str) -> ApproverKeys:
    """Return the keys in the file at `path`.

    Raises:
        NotFoundError: There is no such file.
        InvalidError: It is not a key file, it was altered, or others may read it.
        WrongPassphraseError: It does not open with this passphrase.
    """
    outer = _read_outer(path)
    said = _public_part(outer, path)
    try:
        salt = base64.b64decode(outer["kdf"]["salt"], validate=True)
        cost = Cost(int(outer["kdf"]["passes"]), int(outer["kdf"]["memory"]))
        box = base64.b64decode(outer["box"], validate=True)
    except (ValueError, KeyError, TypeError):
        raise _broken(path) from None
    if cost.memory > MAX_MEMORY or cost.passes > MAX_PASSES:
        raise _broken(path)
    try:
        inner = json.loads(SecretBox(_derive(passphrase, salt, cost)).decrypt(box))
        seeds = {role: bytes.fromhex(seed) for role, seed in inner["seeds"].items()}
        keys = ApproverKeys(inner["fleet"], {r: PrivateKey(s) for r, s in seeds.items()})
    except CryptoError:
        raise WrongPassphraseError(
            f"the key file {path} does not open with this passphrase",
            "Try again; a lost passphrase cannot be recovered, only the keys replaced.",
            path=str(path),
        ) from None
    if said != PublicPart(keys.fleet, {r: k.public for r, k in keys.by_role.items()}):
        raise _broken(path)
    return keys


def _seed_of(role: str, key: SigningKey) -> str:
    if not isinstance(key, PrivateKey):
        raise InvalidError(f"the key of {role} is elsewhere: it has no seed to keep")
    return key.seed.hex()


def _read_outer(path: Path) -> dict[str, Any]:
    try:
        outer = json.loads(read_secret(path))
    except ValueError:
        raise _broken(path) from None
    if not isinstance(outer, dict) or outer.get("format") != FORMAT:
        raise _broken(path)
    return outer


def _public_part(outer: dict[str, Any], path: Path) -> PublicPart:
    try:
        keys = {role: PublicKey(text) for role, text in outer["public"].items()}
        fleet = outer["fleet"]
    except (KeyError, AttributeError, TypeError, ManifestError):
        raise _broken(path) from None
    if not isinstance(fleet, str) or not is_digest(fleet):
        raise _broken(path)
    return PublicPart(fleet, keys)


def _derive(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    return argon2id.kdf(
        KEY_BYTES, passphrase.encode(), salt, opslimit=cost.passes, memlimit=cost.memory
    )


def _broken(path: Path) -> InvalidError:
    return InvalidError(
        f"{path} is not an approver's key file, or it was altered",
        "Restore it from where you keep a copy.",
        path=str(path),
    )
