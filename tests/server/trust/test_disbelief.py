"""Whatever a server hands out, an approver is told what it does or signs nothing."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session
from tests.support.fleet import (
    FleetUnderTest,
    fetcher,
)

from modelfleet_manifests.canonical import canonical
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import approving
from modelfleet_server.trust.approving import InForce, ProposalCopy
from modelfleet_server.trust.changes import RefusedError

Value = dict[str, Any]
TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=5)
JUNK = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | TEXT
    | st.lists(TEXT, max_size=2)
    | st.dictionaries(TEXT, st.integers(0, 2), max_size=2)
)


def _refused(copy: ProposalCopy, held: InForce, fleet: FleetUnderTest, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        approving.describe(copy, held)
    with pytest.raises(RefusedError, match=why):
        approving.sign(copy, fleet.approver, held)


def test_bytes_that_are_not_canonical_are_not_signed(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    payload = copy.roles["targets"]
    for forged in (
        payload.replace(b'"version":2', b'"version":2,"version":2'),
        payload.replace(b'"version":2', b'"version": 2'),
        payload.replace(b'"version":2', b'"version":2.0'),
        payload.replace(b'"_type":"targets"', b'"_type":"snapshot"'),
        b"",
        b"[]",
    ):
        roles = {**copy.roles, "targets": forged}
        _refused(ProposalCopy("1", "t", roles, copy.targets), held, fleet, "targets")


def _places(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [at, *(place for key, one in items for place in _places(one, (*at, key)))]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_a_server_puts_into_a_role_is_described_or_refused(
    copy: ProposalCopy, held: InForce, data: st.DataObject
) -> None:
    role = data.draw(st.sampled_from(sorted(copy.roles)))
    value = json.loads(copy.roles[role])
    *way, last = data.draw(st.sampled_from(_places(value)[1:]))
    inner = value
    for key in way:
        inner = inner[key]
    inner[last] = data.draw(JUNK)
    forged = ProposalCopy(
        copy.id, copy.title, {**copy.roles, role: canonical(value)}, copy.targets
    )
    try:
        lines = approving.describe(forged, held)
    except RefusedError:
        return
    assert lines
    assert all(line.isprintable() for line in lines)


def test_a_server_of_another_fleet_is_not_believed(
    session: Session, copy: ProposalCopy
) -> None:
    with pytest.raises(RefusedError, match="another fleet"):
        approving.fetch_in_force(fetcher(session), "0" * 64, copy.roles)


@pytest.mark.parametrize(
    "name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json"]
)
def test_metadata_that_the_server_forged_or_withholds_is_not_believed(
    session: Session, fleet: FleetUnderTest, copy: ProposalCopy, name: str
) -> None:
    honest = fetcher(session)

    def forge(asked: str) -> bytes | None:
        data = honest(asked)
        if asked != name or data is None:
            return data
        value = json.loads(data)
        value["signed"]["expires"] = "2099-01-01T00:00:00Z"
        return json.dumps(value).encode()

    def withhold(asked: str) -> bytes | None:
        return None if asked == name else honest(asked)

    for fetch in (forge, withhold):
        with pytest.raises(RefusedError, match="does not verify"):
            approving.fetch_in_force(fetch, fleet.fleet, copy.roles)


def test_a_proposal_is_read_from_what_the_server_answers(copy: ProposalCopy) -> None:
    answer = {
        "id": copy.id,
        "title": copy.title,
        "roles": [
            {"role": role, "payload": data.decode()} for role, data in copy.roles.items()
        ],
        "targets": [
            {"path": path, "data": data.decode()} for path, data in copy.targets.items()
        ],
        "signatures": [],
    }
    assert approving.read_proposal(answer) == copy
    for broken in (
        {}, {"id": 1}, {**answer, "roles": [{}]}, {**answer, "targets": 3},
        {**answer, "signatures": [{"role": "root"}]},
    ):  # fmt: skip
        with pytest.raises(InvalidError, match="not a proposal"):
            approving.read_proposal(broken)
