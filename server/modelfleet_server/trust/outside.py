"""Approvers' keys that are in no file of ours: on a token, in a vault, in another's format.

A file of signers names for each role a public key and the URI of a signer of
securesystemslib, such as `hsm:2` or `hv:signing-key`; it holds no secret. Schemes are those
of securesystemslib and what was registered with it. Keys are Ed25519, as for devices.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signer

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.tuf_keys import NaclKey
from modelfleet_server.kit.errors import InvalidError, UnavailableError
from modelfleet_server.trust.approver import (
    ROLES,
    ApproverKeys,
    PublicPart,
    SigningKey,
    open_approver,
    read_public,
)
from modelfleet_server.trust.secretfile import read_secret, write_secret

FORMAT = "modelfleet-approver-signers-0"
Secret = Callable[[], str]
"""Returns a passphrase or PIN; called only where it is needed."""


class SignerError(UnavailableError):
    """A signer that is no file of ours does not sign."""

    code = "outside-signer"


class OutsideKey:
    """A `SigningKey` that securesystemslib finds by a URI.

    Args:
        public: What it must verify with.
        uri: As `securesystemslib.signer.Signer.from_priv_key_uri` takes it.
        secret: Asked if the signer wants a PIN or passphrase.
    """

    def __init__(self, public: PublicKey, uri: str, secret: Secret) -> None:
        self.public, self._uri, self._secret = public, uri, secret

    def sign(self, message: bytes) -> bytes:
        """Return the signature, having verified it.

        Raises:
            SignerError: There is no such signer, it does not sign, or with another key.
        """
        key = NaclKey.from_public(self.public)
        try:
            signer = Signer.from_priv_key_uri(self._uri, key, lambda _name: self._secret())
            signature = signer.sign(message)
            key.verify_signature(signature, message)
        except UnverifiedSignatureError:
            raise SignerError(
                f"the signer {self._uri} has another key than the file says",
                "Name its public key: modelfleet key link.",
            ) from None
        except Exception as error:
            # whatever a token's or a vault's library raises: the person must read it
            raise SignerError(
                f"the signer {self._uri} does not sign: {error}",
                "Is it plugged in, and its package installed?",
            ) from error
        return bytes.fromhex(signature.signature)


def write_signers(
    path: Path, fleet: str, signers: Mapping[str, tuple[PublicKey, str]]
) -> None:
    """Create a file of signers.

    Args:
        path: Of the new file.
        fleet: Whose approver this is.
        signers: Public key and URI by role.

    Raises:
        ConflictError: The file exists.
        InvalidError: A role is none that an approver has.
    """
    strange = sorted(signers.keys() - set(ROLES))
    if strange or not signers:
        raise InvalidError(
            f"there is no role {strange[0] if strange else ''!r}",
            f"Roles are {', '.join(ROLES)}.",
        )
    told = {
        role: {"public": public.hex, "uri": uri} for role, (public, uri) in signers.items()
    }
    value = {"format": FORMAT, "fleet": fleet, "signers": told}
    write_secret(path, json.dumps(value, indent=1).encode() + b"\n")


def read_any(path: Path) -> PublicPart:
    """Return whose keys a file has, of either kind, without opening it.

    Raises:
        NotFoundError: There is none.
        InvalidError: It is no such file, or others may read it.
    """
    value = _read(path)
    if value is None:
        return read_public(path)
    return PublicPart(value["fleet"], {r: key for r, (key, _) in _signers(path, value)})


def open_any(path: Path, secret: Secret) -> ApproverKeys:
    """Return the keys that a file has, or names.

    Raises:
        NotFoundError: There is none.
        InvalidError: It is no such file, or others may read it.
        WrongPassphraseError: It does not open with this passphrase.
    """
    value = _read(path)
    if value is None:
        return open_approver(path, secret())
    keys: dict[str, SigningKey] = {
        role: OutsideKey(public, uri, secret)
        for role, (public, uri) in _signers(path, value)
    }
    return ApproverKeys(value["fleet"], keys)


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file of signers says, None where it is something else."""
    try:
        value = json.loads(read_secret(path))
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        return None
    if not isinstance(value.get("fleet"), str) or not is_digest(value["fleet"]):
        raise InvalidError(f"{path} names no fleet", "Make it again: modelfleet key link.")
    return value


def _signers(path: Path, value: dict[str, Any]) -> list[tuple[str, tuple[PublicKey, str]]]:
    try:
        return [
            (str(role), (PublicKey(one["public"]), str(one["uri"])))
            for role, one in value["signers"].items()
        ]
    except (KeyError, TypeError, AttributeError, ManifestError):
        raise InvalidError(
            f"{path} is no file of signers", "Make it again: modelfleet key link."
        ) from None
