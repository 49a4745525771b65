"""The verified state: what a refresh of the metadata leaves for the supervisor."""

import msgspec

from modelfleet_manifests.header import Minimum


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model, and the digest of its schema, that a slot may hold."""

    model: str
    schema: str


class Signers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may sign a role: public keys by key id, and how many must."""

    keys: dict[str, str]
    threshold: int


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version of a role that was verified, under the keys with this digest."""

    version: int
    keys: str


class TrustState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the supervisor knows of the metadata (`trust/state.json`).

    Attributes:
        fleet: SHA-256 of the first root.
        seen: By role, what was verified last.
        expires: By role, Unix ms; timestamp, snapshot, targets, revocations, stops.
        epoch: Of the director's key.
        director: Public keys that sign assignments and deployments, hexadecimal.
        slots: What each slot may hold.
        floors: Lowest version, by model.
        blocked: Release ids and digests that were revoked; only ever grows.
        stopped: Likewise, those that may not even go on running.
        recallers: Who signs `revocations` and `stops`.
        listed: Path of a release in the metadata -> its id.
        problems: Path that was asked for -> code, where it is not listed.
    """

    fleet: str
    seen: dict[str, Seen] = {}
    expires: dict[str, int] = {}
    epoch: int = 0
    director: list[str] = []
    slots: dict[str, list[Slot]] = {}
    floors: dict[str, str] = {}
    blocked: list[str] = []
    stopped: list[str] = []
    recallers: dict[str, Signers] = {}
    listed: dict[str, str] = {}
    problems: dict[str, str] = {}

    @property
    def minimum(self) -> Minimum:
        """The versions seen, as documents ask for them."""
        raise NotImplementedError

    def is_fresh(self, now: int) -> bool:
        """Say whether new releases may be installed at `now`, Unix ms."""
        raise NotImplementedError
