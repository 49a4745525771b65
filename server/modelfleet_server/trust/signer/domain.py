"""What a signer does, and why it refuses. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from modelfleet_manifests.keys import PublicKey
from modelfleet_server.kit.errors import ConflictError, InvalidError, UnavailableError


class Signature(NamedTuple):
    """One signature: the id of the key, and 64 bytes."""

    key_id: str
    value: bytes


class RoleFile(NamedTuple):
    """A signed file, and the role that it is of."""

    role: str
    data: bytes


class Greeting(NamedTuple):
    """Whose keys a signer has.

    Attributes:
        fleet: SHA-256 of the first root.
        keys: Public keys by role, the newest first.
    """

    fleet: str
    keys: Mapping[str, Sequence[PublicKey]]


class Signer(Protocol):
    """Signs with the online keys what keeps its rules, see `desk`."""

    def greet(self) -> Greeting:
        """Return whose keys it has.

        Raises:
            SignerAwayError: It cannot be reached.
        """

    def learn(self, files: Sequence[RoleFile]) -> None:
        """Take role files that people signed, delegating roles first; skip older ones.

        Raises:
            LacksError: Who signs one of them is not known yet.
            RefusedError: One is not signed by enough of those who may.
            SignerAwayError: It cannot be reached.
        """

    def sign_role(
        self, role: str, payload: bytes, key_ids: Collection[str], *, base: int
    ) -> Signature:
        """Return the signature over a snapshot or timestamp.

        Args:
            role: `snapshot` or `timestamp`.
            payload: Canonical bytes of its signed part.
            key_ids: Of the keys that the root names.
            base: The version of the snapshot in force: what it names is settled.

        Raises:
            TakenError: The version, or a higher one, was signed with another content.
            LacksError: It names a role file that was never learnt.
            NoOnlineKeyError: None of the keys is here.
            RefusedError: It breaks another rule.
            SignerAwayError: It cannot be reached.
        """

    def sign_documents(
        self, kind: str, payloads: Sequence[bytes], key_ids: Collection[str]
    ) -> list[Signature]:
        """Return the signatures over documents of one kind, all or none.

        Args:
            kind: Of the documents, for example `assignment`.
            payloads: Canonical bytes of each.
            key_ids: Of the keys in force; empty lets the newest sign.

        Raises:
            TakenError: An order, or a higher one, was signed with another content.
            LacksError: One names a release of a role that was never learnt.
            RefusedError: One breaks another rule.
            SignerAwayError: It cannot be reached.
        """

    def sign_time(self, nonce: str, key_ids: Collection[str]) -> bytes:
        """Return a time token: the nonce of a device, and what time it is here.

        Args:
            nonce: 32 hexadecimal digits.
            key_ids: Of the keys that the officers named.

        Raises:
            NoOnlineKeyError: None of the keys is here.
            FormatError: The nonce is none.
            SignerAwayError: It cannot be reached.
        """


class RefusedError(InvalidError):
    """The signer does not sign such a thing."""

    code = "signer-refused"


class LacksError(RefusedError):
    """The signer has not learnt a role file yet: teach it, then ask again."""

    code = "signer-lacks"


class TakenError(ConflictError):
    """The signer signed this place, or a higher one, with another content.

    `data` has `role` and `version`, or `topic`, `epoch` and `counter` of the last one.
    """

    code = "signer-taken"


class NoOnlineKeyError(UnavailableError):
    """The officers named an online key that the signer does not have."""

    code = "no-online-key"


class SignerAwayError(UnavailableError):
    """The process that holds the online keys does not answer."""

    code = "signer-away"


REFUSALS: tuple[type[RefusedError | TakenError | NoOnlineKeyError], ...] = (
    RefusedError,
    LacksError,
    TakenError,
    NoOnlineKeyError,
)
"""What travels back as an answer; their `code` names them."""
