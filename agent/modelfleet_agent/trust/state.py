"""The verified state: what a refresh of the metadata leaves for the supervisor; pure.

The child writes it (`trust/state.json`), once everything in it is verified and written
durably; the supervisor believes it as it believes its own disk.
"""

import msgspec

from modelfleet_manifests.header import Minimum

# What must not have expired where something new is installed.
GATES = ("timestamp", "snapshot", "targets", "revocations", "stops")
RELEASES = "trust/releases"


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model, and the digest of its schema, that a slot may hold."""

    model: str
    schema: str


class Signers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may sign a role: public keys by key id, and how many must."""

    keys: dict[str, str]
    threshold: int


class TrustState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the supervisor knows of the metadata (`trust/state.json`).

    Attributes:
        fleet: SHA-256 of the first root.
        seen: By role, the version that was verified last.
        expires: By role, Unix ms; timestamp, snapshot, targets, revocations, stops.
        epoch: Of the director's key.
        director: Public keys that sign assignments and deployments, hexadecimal.
        slots: What each slot may hold.
        floors: Lowest version, by model.
        blocked: Release ids and digests that may not be installed.
        stopped: Likewise, those that may not even go on running.
        pardons: By role, what the officers took off `blocked` and `stopped`.
        recallers: Who signs `revocations` and `stops`.
        timekeepers: Public keys of the role `time`.
        listed: Path of a release in the metadata -> its id.
        problems: Id of a release that was asked for -> code, where it is not listed as
            such: `E_NOT_LISTED`, `E_MISMATCH` (listed with other bytes), `E_STATEMENT`, or
            what is wrong with its role.
        behind: Roles of which something newer was seen, or `floors`; from the floors.
        clock: It is at least so late, Unix ms; from the floors.
    """

    fleet: str
    seen: dict[str, int] = {}
    expires: dict[str, int] = {}
    epoch: int = 0
    director: list[str] = []
    slots: dict[str, list[Slot]] = {}
    floors: dict[str, str] = {}
    blocked: list[str] = []
    stopped: list[str] = []
    pardons: dict[str, list[str]] = {}
    recallers: dict[str, Signers] = {}
    timekeepers: list[str] = []
    listed: dict[str, str] = {}
    problems: dict[str, str] = {}
    behind: list[str] = []
    clock: int = 0

    @property
    def minimum(self) -> Minimum:
        """The versions seen, as documents ask for them."""
        return Minimum(
            **{
                role: self.seen[role]
                for role in Minimum.__struct_fields__
                if role in self.seen
            }
        )

    def is_fresh(self, now: int) -> bool:
        """Say whether new releases may be installed at `now`, Unix ms.

        A clock that was set back does not make anything younger.
        """
        if self.behind:
            return False
        return all(self.expires.get(role, 0) > max(now, self.clock) for role in GATES)


def statement_path(release_id: str) -> str:
    """Return where the statement of a release lies, or would lie, below the directory."""
    return f"{RELEASES}/{release_id}.json"
