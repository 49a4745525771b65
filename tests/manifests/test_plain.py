"""Most documents are read a short way: it takes only what the longer way takes, alike."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from modelfleet_manifests import document, envelope
from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.canonical import MAX_DEPTH, canonical, encode, parse
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import NotUnderstood, cap_of, write
from modelfleet_manifests.envelope import payload_type, seal
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PrivateKey, PublicKey
from modelfleet_manifests.release import read_release
from tests.support.documents import assignment_of, deployment_of, release_of, step_of

KEY = PrivateKey(b"k" * 32)
RELEASE = release_of("1.0.0")
BODIES: dict[str, tuple[type[Assignment] | type[Deployment], bytes]] = {
    "assignment": (Assignment, write(assignment_of())),
    "deployment": (Deployment, write(deployment_of(step_of(RELEASE, 1)))),
}
PIECES = [
    b"0", b"-", b'"', b"\\u0001", b"\\n", b"\\\\", b" ", b",", b"1.0", b"1e3", b"null",
    b"12345678901234567", b"-9007199254740993", "\u00e9".encode(), b"\x00", b"\xff",
    b'"v":1', b'"v":0,', b'"x":0,', b"[]", b"{}", b"AA==",
]  # fmt: skip

edits = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 6), st.sampled_from(PIECES)), max_size=3
)


def damage(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in changes:
        place = at % (len(data) + 1)
        data = data[:place] + piece + data[place + length :]
    return data


@pytest.mark.parametrize("kind", BODIES)
@given(edits)
@settings(max_examples=300, deadline=None)
def test_what_the_short_way_reads_the_long_way_reads_alike(
    kind: str, changes: list[tuple[int, int, bytes]]
) -> None:
    model, good = BODIES[kind]
    data = damage(good, changes)
    short = document._read_plain(data, model, cap_of(kind))
    try:
        long = document._convert(parse(data, what=kind, cap=cap_of(kind)), model, kind)
    except ManifestError:
        assert short is None
    else:
        assert short in (None, long)
    if data == good:
        assert short is not None


@given(edits)
@settings(max_examples=300, deadline=None)
def test_an_envelope_that_the_short_way_opens_the_long_way_opens_alike(
    changes: list[tuple[int, int, bytes]],
) -> None:
    good = seal("assignment", BODIES["assignment"][1], [KEY])
    data = damage(good, changes)
    short = envelope._open_plain(data, "assignment")
    if short is None:
        assert data != good
        return
    value = parse(data, what="envelope", cap=1 << 20)
    assert isinstance(value, dict)
    assert value["payloadType"] == payload_type("assignment")
    assert envelope._decode(value["payload"], "assignment") == short.payload
    signatures = [
        envelope._read_signature(one, "assignment") for one in value["signatures"]
    ]
    assert signatures == [(one.keyid, one.sig) for one in short.signatures]


def test_a_document_that_asks_for_more_is_not_read_the_short_way() -> None:
    for change in (b'"needs":["shadow"]', b'"needs":["x","y"]'):
        payload = BODIES["assignment"][1].replace(b'"needs":[]', change)
        found = document.read_directed(payload, Assignment, "assignment")
        assert isinstance(found, NotUnderstood)


def test_a_document_for_nobody_or_for_two_is_refused() -> None:
    payload = BODIES["assignment"][1]
    both = payload.replace(b'"fleet"', b'"group":"' + b"a" * 32 + b'","fleet"')
    value = parse(payload, what="x", cap=1 << 20)
    assert isinstance(value, dict)
    header = {k: v for k, v in value["header"].items() if k not in {"device", "enrolment"}}
    for data in (both, canonical(value | {"header": header})):
        with pytest.raises(ManifestError):
            document.read_directed(data, Assignment, "assignment")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(values)
@example({"\u00e9": '"\\', "a": [True, None, -1]})
def test_canonical_text_is_that_of_securesystemslib(value: Any) -> None:
    try:
        canonical(value)
    except ManifestError:
        return  # nothing that is signed here holds it
    assert encode(value) == encode_canonical(value)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_ends_at_the_same_depth_either_way(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    for inner in ("0", '"\\\\"'):  # a backslash takes the longer way
        for depth in range(MAX_DEPTH - 1, MAX_DEPTH + 3):
            data = (opening * depth + inner + closing * depth).encode()
            try:
                parse(data, what="x", cap=1 << 20)
                taken = True
            except ManifestError:
                taken = False
            assert taken == (depth <= MAX_DEPTH), (depth, inner)


def test_a_signature_of_another_length_does_not_verify() -> None:
    message = b"message"
    signature = KEY.sign(message)
    public = PublicKey(KEY.public.hex)
    public.verify(message, signature)
    for bad in (signature[:-1], signature + message, b"", signature[:32]):
        with pytest.raises(ManifestError):
            public.verify(message, bad)
    with pytest.raises(ManifestError):
        public.verify(b"", signature + message)


def test_a_release_is_read_either_way() -> None:
    data = write(RELEASE)
    assert read_release(data) == RELEASE
