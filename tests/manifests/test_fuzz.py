"""The parsers meet what nobody wrote: every input is taken or refused by name, never else.

What once went wrong is kept in `regressions/`, one input a file, named `<parser>-<what>`.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.canonical import canonical, parse
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import cap_of, read_directed, write
from modelfleet_manifests.envelope import peek, seal, unseal
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import read_release, write_release
from tests.support.documents import assignment_of, deployment_of, release_of, step_of

edit = st.tuples(st.integers(0, 10_000), st.binary(max_size=3))
KEPT = Path(__file__).parent / "regressions"
KEY = PrivateKey(b"k" * 32)
V1, V2 = release_of("1.0.0"), release_of("1.1.0", rollback_to=["1.0.0"])

PARSERS: dict[str, Callable[[bytes], object]] = {
    "canonical": lambda data: parse(data, what="value", cap=1 << 16),
    "envelope": lambda data: unseal(data, "deployment", [KEY.public], cap=1 << 15),
    "peek": lambda data: peek(data, "assignment", cap=1 << 14),
    "deployment": lambda data: read_directed(data, Deployment, "deployment"),
    "assignment": lambda data: read_directed(data, Assignment, "assignment"),
    "release": read_release,
}
GOOD: dict[str, bytes] = {
    "canonical": canonical({"a": [1, "b", None, True], "c": {}}),
    "envelope": seal("deployment", write(deployment_of(step_of(V1, 1))), [KEY]),
    "peek": seal("assignment", write(assignment_of()), [KEY]),
    "deployment": write(deployment_of(step_of(V2, 2), step_of(V1, 1))),
    "assignment": write(assignment_of()),
    "release": write_release(V2),
}


def take(parser: str, data: bytes) -> object | None:
    """Return what a parser makes of `data`, None where it refuses it by name."""
    try:
        return PARSERS[parser](data)
    except ManifestError:
        return None


@pytest.mark.parametrize("parser", PARSERS)
def test_the_good_one_is_taken(parser: str) -> None:
    assert take(parser, GOOD[parser]) is not None


@pytest.mark.parametrize("path", sorted(KEPT.iterdir()), ids=lambda path: path.name)
def test_what_once_went_wrong_is_refused_by_name(path: Path) -> None:
    assert take(path.name.partition("-")[0], path.read_bytes()) is None


@pytest.mark.parametrize("parser", PARSERS)
@given(data=st.binary(max_size=200))
@settings(max_examples=60)
def test_noise_is_refused_by_name(parser: str, data: bytes) -> None:
    take(parser, data)


@pytest.mark.parametrize("parser", PARSERS)
@given(edits=st.lists(edit, min_size=1, max_size=4))
@settings(max_examples=60)
def test_a_good_one_that_was_damaged_is_taken_as_it_is_or_refused(
    parser: str, edits: list[tuple[int, bytes]]
) -> None:
    data = GOOD[parser]
    for at, put in edits:
        place = at % len(data)
        data = data[:place] + put + data[place + max(len(put), 1) :]
    found = take(parser, data)
    if found is not None and parser == "envelope":
        assert found == peek(GOOD[parser], "deployment", cap=1 << 15)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("parser", ["deployment", "assignment", "release"])
@given(value=json_values, choice=st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_value_in_any_place_is_taken_or_refused(
    parser: str, value: object, choice: "object"
) -> None:
    """One field of a good document, at any depth, holds something else."""
    document = json.loads(GOOD[parser])
    holder, key = document, None
    while True:
        places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = choice.choice(places)  # type: ignore[attr-defined]
        deeper = holder[key]
        if not isinstance(deeper, dict | list) or not deeper or choice.random() < 0.3:  # type: ignore[attr-defined]
            break
        holder = deeper
    holder[key] = value
    data = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode("utf-8", "surrogatepass")
    take(parser, data)


@given(st.lists(st.binary(max_size=80), max_size=6), st.binary(max_size=40))
@settings(max_examples=60)
def test_signatures_of_any_shape_never_count(raw: list[bytes], payload: bytes) -> None:
    signatures = [
        {"keyid": KEY.public.key_id, "sig": base64.b64encode(one).decode()} for one in raw
    ]
    value = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": "application/vnd.modelfleet.deployment+json",
        "signatures": signatures,
    }
    assert take("envelope", canonical(value)) is None


def test_a_document_of_one_kind_is_no_other() -> None:
    """Type confusion: the payload type is signed with the payload."""
    for kind in ("deployment", "assignment", "report", "telemetry"):
        envelope = seal(kind, GOOD["deployment"], [KEY])
        taken = take("envelope", envelope)
        assert (taken is not None) == (kind == "deployment")
        renamed = envelope.replace(f".{kind}+".encode(), b".deployment+")
        if kind != "deployment":
            assert take("envelope", renamed) is None
    assert cap_of("deployment") > cap_of("assignment")
