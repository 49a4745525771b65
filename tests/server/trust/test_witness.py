"""An approver's client remembers what it saw, and signs upon nothing older."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import Session
from tests.support.fleet import NOW, FleetUnderTest, fetcher, id_of

from modelfleet_manifests.keys import PrivateKey
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import approving, delegations, repository, witness
from modelfleet_server.trust.approving import InForce
from modelfleet_server.trust.changes import RefusedError

FLEET = "f" * 64
ROLES = {"demo/digits": b"", "revocations": b""}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return witness.path_of(tmp_path / "ann.key")


def _seen(session: Session, fleet: FleetUnderTest) -> InForce:
    return approving.fetch_in_force(fetcher(session), fleet.fleet, ROLES)


def _with(held: InForce, **versions: int) -> InForce:
    changed: Mapping[str, int] = {**held.versions, **versions}
    return replace(held, versions=changed)


def test_a_server_that_shows_an_approver_last_weeks_state_is_refused(
    session: Session, fleet: FleetUnderTest, path: Path
) -> None:
    """Validly signed, then: what came since would be dropped by what is signed upon it."""
    release = fleet.release(session)
    before = _seen(session, fleet)
    witness.check(path, FLEET, before)
    fleet.recall(session, id_of(release))
    witness.check(path, FLEET, _seen(session, fleet))
    with pytest.raises(RefusedError, match="was seen here before"):
        witness.check(path, FLEET, before)


@pytest.mark.parametrize("role", ["root", "targets", "demo/digits", "timestamp"])
def test_each_role_has_a_floor_of_its_own(
    session: Session, fleet: FleetUnderTest, path: Path, role: str
) -> None:
    fleet.release(session)
    held = _seen(session, fleet)
    witness.check(path, FLEET, _with(held, **{role: 7}))
    with pytest.raises(RefusedError, match=f"shows {role} 6, and 7"):
        witness.check(path, FLEET, _with(held, **{role: 6}))
    witness.check(path, FLEET, _with(held, **{role: 7}))


def test_versions_counted_up_by_a_thief_end_with_new_online_keys(
    session: Session, fleet: FleetUnderTest, path: Path
) -> None:
    held = _seen(session, fleet)
    witness.check(path, FLEET, _with(held, timestamp=1 << 40, snapshot=1 << 40))
    with pytest.raises(RefusedError):
        witness.check(path, FLEET, held)
    root = repository.advance(held.root, "root", NOW)
    new = delegations.KeySet((PrivateKey.generate().public,))
    delegations.set_keys(root, "timestamp", new)
    witness.check(path, FLEET, replace(held, root=root))


def test_another_fleets_memory_does_not_count_and_a_broken_one_is_named(
    session: Session, fleet: FleetUnderTest, path: Path
) -> None:
    held = _seen(session, fleet)
    witness.check(path, "0" * 64, _with(held, targets=99))
    witness.check(path, FLEET, held)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InvalidError, match="does not say what was seen"):
        witness.check(path, FLEET, held)
