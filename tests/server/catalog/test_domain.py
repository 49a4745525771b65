"""The table of a version's states, and lineage."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.catalog.conftest import LINEAGE

from modelfleet_manifests.canonical import parse
from modelfleet_server.catalog.domain import (
    MAX_LINEAGE,
    MOVES,
    Event,
    LineageError,
    State,
    VersionStateError,
    after,
    write_lineage,
)


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(State, Event)) - set(MOVES))
)
def test_any_move_not_in_the_table_is_refused(state: State, event: Event) -> None:
    with pytest.raises(VersionStateError):
        after(state, event)


def test_every_state_can_be_reached_from_building() -> None:
    reached = {State.BUILDING}
    while more := {to for (state, _), to in MOVES.items() if state in reached} - reached:
        reached |= more
    assert reached == set(State)


def test_what_was_signed_never_becomes_unsigned() -> None:
    signed = {State.RELEASED, State.REVOKED}
    assert {to for (state, _), to in MOVES.items() if state in signed} <= signed


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(parameters=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_lineage_has_one_encoding_whatever_the_parameters(
    parameters: dict[str, object],
) -> None:
    try:
        data = write_lineage(LINEAGE | {"hyperparameters": parameters})
    except LineageError:
        return
    again = parse(data, what="lineage", cap=MAX_LINEAGE)
    assert isinstance(again, dict)
    assert write_lineage(again) == data


def test_fractions_in_a_lineage_become_decimal_strings() -> None:
    assert json.loads(write_lineage(LINEAGE))["hyperparameters"]["rate"] == "0.001"


@pytest.mark.parametrize(
    "change",
    [
        {"code": "A" * 64},
        {"data": None},
        {"environment": "short"},
        {"hyperparameters": None},
        {"hyperparameters": [1]},
        {"notes": "x" * (MAX_LINEAGE + 1)},
        {"big": 2**60},
        {"odd": {1, 2}},
    ],
)
def test_a_lineage_that_is_not_well_formed_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(LineageError):
        write_lineage(LINEAGE | change)
