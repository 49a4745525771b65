"""Ed25519 keys by PyNaCl. Nothing here reads or writes a file."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import FormatError, SignatureError

KEY_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key, 32 bytes as 64 hexadecimal digits."""

    hex: str

    def __post_init__(self) -> None:
        try:
            raw = bytes.fromhex(self.hex)
        except ValueError:
            raw = b""
        if len(raw) != KEY_BYTES or self.hex != raw.hex():
            raise FormatError("public key", "is not 64 lower-case hexadecimal digits")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the raw key, 64 hexadecimal digits."""
        return hashlib.sha256(bytes.fromhex(self.hex)).hexdigest()

    @property
    def key_id(self) -> str:
        """The key id that TUF metadata and securesystemslib give this key."""
        return _key_id(self.hex)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return if `signature` is this key's over `message`.

        Raises:
            SignatureError: It is not.
        """
        if len(signature) != SIGNATURE_BYTES:  # the rest would count as message
            raise SignatureError("signature", "does not verify")
        try:
            # what `VerifyKey.verify` does, without its objects
            crypto_sign_open(signature + message, bytes.fromhex(self.hex))
        except (BadSignatureError, ValueError):
            raise SignatureError("signature", "does not verify") from None


@lru_cache(maxsize=64)
def _key_id(public: str) -> str:
    key = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}}
    return sha256(canonical(key))


class PrivateKey:
    """An Ed25519 private key; `seed` is all there is to keep."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public = PublicKey(self._key.verify_key.encode().hex())

    @classmethod
    def generate(cls) -> "PrivateKey":
        """Return a new key from the operating system's randomness."""
        return cls(SigningKey.generate().encode())

    @property
    def seed(self) -> bytes:
        """32 bytes, secret."""
        return bytes(self._key.encode())

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the detached signature."""
        return bytes(self._key.sign(message).signature)
