"""What this device has seen and never goes below; pure.

python-tuf compares with its cache, and a cache can be lost or put back. These floors do not
depend on it. Each of them holds while all keys that it rests on are still in the role:
who replaces a stolen key also ends what the thief counted up. Adding a key ends nothing.

| floor      | rises with                           | ends when a key is taken from     |
|------------|--------------------------------------|-----------------------------------|
| `claimed`  | a snapshot that names the role       | timestamp or snapshot             |
| `seen`     | the role, under its own signatures   | that role                         |
| clock      | the signed issue time of a timestamp,| timestamp; never passes the root  |
|            | and running time of this device      |                                   |
| `models`   | the floor that a model's role has    | never                             |
| tombstones | any authentic file                   | never                             |
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec
from msgspec.structs import replace

from modelfleet_manifests.semver import is_lower

ONLINE = ("timestamp", "snapshot")
PACE = 98
"""Per cent of its running time that a device counts: its oscillator may run fast."""


class Floor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that was seen, and the public keys under which it counts."""

    version: int
    keys: list[str]


class ModelFloor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lowest version of a model, and the version of the role that said so last.

    Attributes:
        floor: Empty where the role says that there is none.
        role: Version of the role.
    """

    floor: str
    role: int


class Floors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All floors of a device in one fleet.

    Attributes:
        fleet: SHA-256 of the first root.
        serial: Of this record; the higher one of two is the newer one.
        root: Highest version of the root; roots are chained, so it never ends.
        online: Keys of timestamp and snapshot, for `claimed`.
        claimed: Version by role, as a snapshot named it.
        seen: By role.
        models: By model.
        blocked: Release ids and digests that were ever revoked.
        stopped: Likewise, that were ever stopped.
        issued: When the newest timestamp was signed, Unix ms, as it says itself.
        stamped: Keys of the timestamp, for `issued`.
        aged: Ms that this device ran since `issued`, as far as it counts them.
        clock: What follows from both under the current root: it is at least so late.
    """

    fleet: str
    serial: int = 0
    root: int = 0
    online: list[str] = []
    claimed: dict[str, int] = {}
    seen: dict[str, Floor] = {}
    models: dict[str, ModelFloor] = {}
    blocked: list[str] = []
    stopped: list[str] = []
    issued: int = 0
    stamped: list[str] = []
    aged: int = 0
    clock: int = 0


def under_root(
    floors: Floors, version: int, keys: Mapping[str, Collection[str]], expires: int
) -> Floors:
    """Return the floors as they are under a verified root.

    Args:
        floors: As they were.
        version: Of the root.
        keys: Public keys by top-level role, as this root has them.
        expires: When this root expires, Unix ms.
    """
    online = {key for role in ONLINE for key in keys[role]}
    kept = _still(floors.online, online)
    dated = _still(floors.stamped, keys["timestamp"])
    issued, aged = (floors.issued, floors.aged) if dated else (0, 0)
    return replace(
        floors,
        root=max(floors.root, version),
        online=sorted(online),
        claimed=floors.claimed if kept else {},
        seen={
            role: floor
            for role, floor in floors.seen.items()
            if role not in keys or _still(floor.keys, keys[role])
        },
        issued=issued,
        stamped=floors.stamped if dated else [],
        aged=aged,
        clock=_clock(issued + aged, expires),
    )


def dated(floors: Floors, issued: int, keys: Collection[str], expires: int) -> Floors:
    """Return the floors after a timestamp that was verified under the current root.

    Args:
        floors: As they are under that root.
        issued: When it says that it was signed, Unix ms.
        keys: Of the timestamp.
        expires: When the root expires, Unix ms: the clock never passes that.
    """
    if issued <= floors.issued:
        return floors
    # who has the key cannot take back the time that passed by signing yesterday's
    aged = max(floors.issued + floors.aged - issued, 0)
    clock = _clock(issued + aged, expires)
    return replace(floors, issued=issued, stamped=sorted(keys), aged=aged, clock=clock)


def age(floors: Floors, ran_ms: int) -> Floors:
    """Return the floors after the device ran for a while; the clock follows `under_root`.

    Without it, whoever signs what time it is could tell each start the same: then nothing
    that the device holds would ever expire.

    Args:
        floors: As they were.
        ran_ms: By a clock that only rises.
    """
    if not floors.issued:
        return floors
    return replace(floors, aged=floors.aged + ran_ms * PACE // 100)


def claim(floors: Floors, versions: Mapping[str, int]) -> Floors:
    """Return the floors after a verified snapshot that names these versions."""
    raised = {
        role: max(version, floors.claimed.get(role, 0))
        for role, version in versions.items()
    }
    return replace(floors, claimed=floors.claimed | raised)


def see(floors: Floors, role: str, version: int, keys: Collection[str]) -> Floors:
    """Return the floors after a role was verified under its own keys."""
    held = below_keys(floors, role, keys)
    floor = Floor(max(version, held), sorted(keys))
    return replace(floors, seen=floors.seen | {role: floor})


def below_keys(floors: Floors, role: str, keys: Collection[str]) -> int:
    """Return the lowest version that `role` may have under these keys, 0 for any."""
    held = floors.seen.get(role)
    return held.version if held is not None and _still(held.keys, keys) else 0


def raise_model(floors: Floors, model: str, floor: str, role: int) -> Floors:
    """Return the floors after the role of `model`, in version `role`, said its floor.

    A newer role may lower it: that is k of n approvers. An older one only raises it.
    """
    held = floors.models.get(model, ModelFloor("", 0))
    if role <= held.role and held.floor and (not floor or is_lower(floor, held.floor)):
        return floors
    said = ModelFloor(floor, max(role, held.role))
    return replace(floors, models=floors.models | {model: said})


def bury(floors: Floors, blocked: Iterable[str], stopped: Iterable[str]) -> Floors:
    """Return the floors with more tombstones."""
    return replace(
        floors,
        blocked=sorted({*floors.blocked, *blocked}),
        stopped=sorted({*floors.stopped, *stopped}),
    )


def behind(floors: Floors, versions: Mapping[str, int], roles: Iterable[str]) -> list[str]:
    """Return which of `roles` are older in `versions` than a floor says.

    Nothing is installed while there are any: what is withheld may be a revocation.
    """
    return [role for role in roles if versions.get(role, 0) < _highest(floors, role)]


def _clock(time: int, expires: int) -> int:
    return max(min(time, expires - 1000), 0)


def _highest(floors: Floors, role: str) -> int:
    if role == "root":
        return floors.root
    held = floors.seen.get(role)
    return max(held.version if held else 0, floors.claimed.get(role, 0))


def _still(keys: Iterable[str], now: Collection[str]) -> bool:
    """Say whether none of the keys that a floor rests on was taken away."""
    return set(keys) <= set(now)
