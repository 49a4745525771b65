"""What an up-to-date device knows from the metadata in force, for the server's resolver."""

from functools import lru_cache

from sqlmodel import Session
from tuf.api.metadata import Targets

from modelfleet_manifests.names import split_path
from modelfleet_manifests.recalls import ACTIONS, Recalls, names_of, ranges_of
from modelfleet_manifests.release import read_release
from modelfleet_manifests.trust import SlotRule, TrustView
from modelfleet_server.trust import delegations, repository, rolefile, store


def read_recalls(session: Session) -> Recalls:
    """Return what is revoked and stopped."""
    files = {
        role: row.data if (row := store.find_newest(session, role)) else b""
        for role in delegations.RECALL_PATHS
    }
    pardoned = _pardoned(session)
    return Recalls(
        blocked=_names("revocations", files["revocations"]) - pardoned["revocations"],
        stopped=_names("stops", files["stops"]) - pardoned["stops"],
    )


def recalled_names(session: Session) -> frozenset[str]:
    """Return ids and digests of all that is recalled; of a range, its releases' ids."""
    recalls = read_recalls(session)
    names = recalls.blocked | recalls.stopped
    ranges = ranges_of(names)
    if not ranges:
        return names
    covered = {
        digest
        for path, digest in store.release_paths(session)
        if any(one.covers(*split_path(path)) for one in ranges)
    }
    return names | covered


def read_view(session: Session, *, now_ms: int) -> TrustView:
    """Return the view of a device that is up to date.

    Every release ever listed is in it: O(releases).
    """
    targets = store.find_newest(session, "targets")
    fresh = store.find_newest(session, "timestamp")
    releases = {row.digest: read_release(row.data) for row in store.all_releases(session)}
    floors = {
        model: floor
        for model in {release.model for release in releases.values()}
        if (floor := _floor(session, model)) is not None
    }
    return TrustView(
        releases=releases,
        slots={} if targets is None else _slots(targets.data),
        recalls=read_recalls(session),
        floors=floors,
        seen=store.minimum(session),
        epoch=store.read_epoch(session),
        fresh=fresh is not None and fresh.expires_ms > now_ms,
    )


def _pardoned(session: Session) -> dict[str, frozenset[str]]:
    targets = store.find_newest(session, "targets")
    fields = {} if targets is None else _targets(targets.data).unrecognized_fields
    paths: list[str] = fields.get(repository.UNREVOKE, [])
    return {role: frozenset(names_of(role, paths)[0]) for role in ACTIONS}


def _floor(session: Session, model: str) -> str | None:
    row = store.find_newest(session, model)
    if row is None:
        return None
    floor = _targets(row.data).unrecognized_fields.get(repository.FLOOR)
    return None if floor is None else str(floor)


def _slots(data: bytes) -> dict[str, tuple[SlotRule, ...]]:
    field = _targets(data).unrecognized_fields.get(repository.SLOTS, {})
    return {
        slot: tuple(SlotRule(rule["model"], rule["schema"]) for rule in rules)
        for slot, rules in field.items()
    }


@lru_cache(maxsize=4)
def _names(role: str, data: bytes) -> frozenset[str]:
    if not data:
        return frozenset()
    return frozenset(names_of(role, _targets(data).targets)[0])


def _targets(data: bytes) -> Targets:
    signed = rolefile.read_file(data).signed
    if not isinstance(signed, Targets):
        raise TypeError("the stored metadata is no targets role")
    return signed
