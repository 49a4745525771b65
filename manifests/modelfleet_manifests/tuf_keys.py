"""PyNaCl keys for python-tuf, through securesystemslib's public extension points.

Importing this module registers `NaclKey` for Ed25519. Without it securesystemslib wants the
`cryptography` package, or falls back to a pure-Python verifier a hundred times slower.
The supervisor never imports this: only the server and the agent's metadata child do.
"""

from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Key, Signature, Signer

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PrivateKey, PublicKey


class NaclKey(Key):
    """An Ed25519 public key as TUF metadata carries it."""

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> "NaclKey":
        """Read a key of TUF metadata; the dictionary is consumed."""
        keytype, scheme, keyval = cls._from_dict(key_dict)
        return cls(keyid, keytype, scheme, keyval, key_dict)

    @classmethod
    def from_public(cls, public: PublicKey) -> "NaclKey":
        """Return the TUF form of one of our keys."""
        return cls(public.key_id, "ed25519", "ed25519", {"public": public.hex})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self._to_dict()

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        """Return if `signature` is this key's over `data`.

        Raises:
            UnverifiedSignatureError: It is not.
        """
        try:
            PublicKey(self.keyval["public"]).verify(
                data, bytes.fromhex(signature.signature)
            )
        except (ManifestError, ValueError, KeyError, TypeError) as error:
            raise UnverifiedSignatureError(f"key {self.keyid}: {error}") from None


class NaclSigner(Signer):
    """Signs TUF metadata with one of our private keys."""

    def __init__(self, private: PrivateKey) -> None:
        self._private = private
        self._key = NaclKey.from_public(private.public)

    @property
    def public_key(self) -> Key:
        """The key that verifies what this signer signs."""
        return self._key

    @classmethod
    def from_priv_key_uri(
        cls,
        priv_key_uri: str,
        public_key: Key,
        secrets_handler: Any = None,  # noqa: ANN401
    ) -> "NaclSigner":
        """Not offered: our keys are never found by a URI.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("build a NaclSigner from a PrivateKey")

    def sign(self, payload: bytes) -> Signature:
        """Return the signature over `payload`."""
        return Signature(self._key.keyid, self._private.sign(payload).hex())


KEY_FOR_TYPE_AND_SCHEME[("ed25519", "ed25519")] = NaclKey
