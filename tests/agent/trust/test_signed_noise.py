"""Metadata with any value in any place: as a thief of keys signs it, or as nobody did."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.walks import Device, history
from tuf.api.exceptions import ExpiredMetadataError, UnsignedMetadataError

from modelfleet_manifests.canonical import MAX_INTEGER, canonical
from modelfleet_manifests.digests import sha256

ROLES = ("timestamp.json", "snapshot.json", "targets.json", "stops.json", "demo.json")

words = st.text("az09-/.:@~ ", max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, MAX_INTEGER) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


def signed_anew(name: str, change: Any) -> dict[str, bytes]:
    """Return the newest metadata with one role changed, and all above it made to fit."""
    known = history()
    served = dict(known.states[-1])
    role = name.removesuffix(".json")
    file = newest_of(name, served)
    signed = json.loads(served[file])["signed"]
    change(signed)
    served[file] = seal(role, signed)
    if role not in {"timestamp", "snapshot"}:
        return served
    if role == "snapshot":
        stamp = json.loads(served["timestamp.json"])["signed"]
        stamp["meta"]["snapshot.json"] |= {
            "length": len(served[file]),
            "hashes": {"sha256": sha256(served[file])},
        }
        served["timestamp.json"] = seal("timestamp", stamp)
    return served


def newest_of(name: str, served: dict[str, bytes]) -> str:
    """Return the file of a role's newest version."""
    versions = [one for one in served if one.partition(".")[2] == name]
    return max(versions, key=lambda one: int(one.partition(".")[0]), default=name)


def seal(role: str, signed: Any) -> bytes:
    """Return a file of a role, signed by whoever may."""
    fleet = history().fleet
    key = (fleet.signers.get(role) or [fleet.keys[role]])[0]
    signature = {"keyid": key.public.key_id, "sig": key.sign(canonical(signed)).hex()}
    return canonical({"signatures": [signature], "signed": signed})


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where something could be put: every field and item, and one that is new."""
    found: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        found += [(*path, key) for key in value]
        found += [one for key in value for one in places(value[key], (*path, key))]
    if isinstance(value, list):
        found += [(*path, at) for at in range(len(value))]
        found += [one for at, item in enumerate(value) for one in places(item, (*path, at))]
    return found


def put(signed: Any, which: int, value: Any) -> None:
    found = places(signed)
    *way, last = found[which % len(found)]
    for part in way:
        signed = signed[part]
    signed[last] = value


@given(st.sampled_from(ROLES), st.integers(0, 1000), values, st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_value_in_any_place_of_metadata_is_refused_by_name_or_taken(
    name: str, which: int, value: Any, is_signed: bool
) -> None:
    if is_signed:
        served = signed_anew(name, lambda signed: put(signed, which, value))
    else:
        served = dict(history().states[-1])
        file = newest_of(name, served)
        whole = json.loads(served[file])
        put(whole, which, value)
        served[file] = canonical(whole)
    device, honest = Device(), Device()
    assert honest.refresh(history().states[-1]) is None
    failed = device.refresh(served)  # what is no error of ours is raised here
    assert failed is None or str(failed)
    released = {one.id for one in history().refs}
    assert set(device.state.listed.values()) <= released


# what once went wrong


@pytest.mark.parametrize("public", [None, 5, "", [], "00"])
def test_a_key_that_is_none_verifies_nothing(public: Any) -> None:
    def spoil(signed: Any) -> None:
        for key in signed["delegations"]["keys"].values():
            key["keyval"]["public"] = public

    device = Device()
    assert device.refresh(signed_anew("demo.json", spoil)) is None
    assert device.state.listed == {}
    assert set(device.state.problems.values()) == {"E_THRESHOLD"}


def test_a_role_that_names_a_key_which_is_not_there_has_one_key_less() -> None:
    def spoil(signed: Any) -> None:
        signed["delegations"]["keys"].clear()

    device = Device()
    failed = device.refresh(signed_anew("targets.json", spoil))
    assert isinstance(failed, UnsignedMetadataError)


@pytest.mark.parametrize("time", [253_402_300_800_000, MAX_INTEGER])
def test_a_time_beyond_the_calendar_is_late_and_no_crash(
    time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history().fleet, "tells", lambda: time)
    assert isinstance(Device().refresh(history().states[-1]), ExpiredMetadataError)
