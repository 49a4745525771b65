"""What one refresh sees, held against what this device has ever seen; pure.

It fills while the metadata is walked, and what it holds counts also where the walk fails
later: somebody signed it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import Root, Signed, Snapshot, Timestamp

from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.checks import RECALLERS, FreezeError, public_keys
from modelfleet_agent.trust.floors import Floors

TOP = ("targets", *RECALLERS)


@dataclass
class Sight:
    """Versions and expiries, and the floors under them.

    Attributes:
        floors: As they were, and as they rise.
        listed: Paths of releases that the state before names: their roles are claimed.
        seen: By role, the version that was verified.
        expires: By role, Unix ms.
    """

    floors: Floors
    listed: Collection[str] = ()
    seen: dict[str, int] = field(default_factory=dict)
    expires: dict[str, int] = field(default_factory=dict)

    def under_root(self, root: Root) -> None:
        """Go on under a verified root.

        Raises:
            FreezeError: A newer one was seen.
        """
        self._refuse_older("root", root.version, self.floors.root)
        keys = {name: public_keys(role, root.keys) for name, role in root.roles.items()}
        self.floors = rules.under_root(self.floors, root.version, keys, expiry_of(root))
        self.seen["root"] = root.version

    def see_timestamp(self, root: Root, timestamp: Timestamp) -> None:
        """Note a verified timestamp, and when it says that it was signed.

        Raises:
            FreezeError: A newer one was seen.
        """
        keys = public_keys(root.roles["timestamp"], root.keys)
        self.see("timestamp", timestamp, keys)
        self.expires["timestamp"] = expiry_of(timestamp)
        issued = timestamp.unrecognized_fields.get("x-issued")
        if isinstance(issued, int):
            self.floors = rules.dated(self.floors, issued, keys, expiry_of(root))

    def see_snapshot(self, root: Root, snapshot: Snapshot) -> None:
        """Note a verified snapshot, and the versions that it names.

        Raises:
            FreezeError: A newer one was seen, or it names an older role than another did.
        """
        self._claim(snapshot)
        keys = public_keys(root.roles["snapshot"], root.keys)
        self.see("snapshot", snapshot, keys)
        self.expires["snapshot"] = expiry_of(snapshot)

    def see(self, name: str, signed: Signed, keys: Collection[str]) -> None:
        """Note a role that was verified under its own keys, whatever a cache says.

        Raises:
            FreezeError: A newer one was seen.
        """
        lowest = rules.below_keys(self.floors, name, keys)
        self._refuse_older(name, signed.version, lowest)
        self.floors = rules.see(self.floors, name, signed.version, keys)
        self.seen[name] = signed.version

    def judge_expiry(self, now: int) -> None:
        """Return if nothing that was seen so far has expired at `now`, Unix ms.

        Raises:
            ExpiredMetadataError: Something has.
        """
        for role, ends in self.expires.items():
            if ends <= now:
                raise ExpiredMetadataError(f"{role} has expired")

    def _claim(self, snapshot: Snapshot) -> None:
        named = {
            name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()
        }
        for role, version in self.floors.claimed.items():
            self._refuse_older(f"the snapshot's {role}", named.get(role, 0), version)
        known = {*TOP, *_roles_of(self.listed), *self.floors.claimed}
        self.floors = rules.claim(
            self.floors, {role: named[role] for role in known if role in named}
        )

    def _refuse_older(self, name: str, version: int, lowest: int) -> None:
        if version < lowest:
            raise FreezeError(f"{name} has version {version}; version {lowest} was seen")


def expiry_of(signed: Signed) -> int:
    """Return when a role expires, Unix ms."""
    return int(signed.expires.timestamp()) * 1000


def _roles_of(paths: Collection[str]) -> set[str]:
    """Return namespaces and models of releases."""
    parts = [path.split("/") for path in paths]
    return {one[1] for one in parts} | {f"{one[1]}/{one[2]}" for one in parts}
