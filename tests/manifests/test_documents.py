"""Documents as bytes: what is taken, what is refused, and with which code."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.canonical import MAX_INTEGER, canonical, parse
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import (
    NotUnderstood,
    cap_of,
    read_directed,
    write,
)
from modelfleet_manifests.envelope import MAX_SIGNATURES, seal, unseal
from modelfleet_manifests.errors import (
    AddressError,
    EquivocationError,
    FormatError,
    ManifestError,
    OrderError,
    SignatureError,
    SizeError,
)
from modelfleet_manifests.evaluation import Evaluation
from modelfleet_manifests.header import Order, check_address, check_order
from modelfleet_manifests.keys import PrivateKey, PublicKey
from modelfleet_manifests.topics import (
    deployment_topic,
    device_topic,
    parse_topic,
)
from tests.manifests.vectors import make
from tests.support.documents import (
    DEVICE,
    ENROLMENT,
    FLEET,
    GROUP,
    assignment_of,
    deployment_of,
    hex_of,
)

Body = Assignment | Deployment | Evaluation
BODIES: dict[str, type[Body]] = {
    "assignment": Assignment,
    "deployment": Deployment,
    "evaluation": Evaluation,
}
KEYS = [PrivateKey(bytes([number]) * 32) for number in range(1, 6)]
GOOD = sorted((make.HERE / "good").glob("*.json"))
BAD = sorted((make.HERE / "bad").glob("*.json"))


def receive(case: dict[str, Any]) -> tuple[Body | NotUnderstood, str]:
    """Verify, address and parse one message as a device does."""
    address = parse_topic(case["topic"])
    assert address is not None
    keys = [PublicKey(key) for key in case["keys"]]
    kind = case["kind"]
    payload = unseal(case["envelope"].encode("latin-1"), kind, keys, cap=cap_of(kind))
    document = read_directed(payload, BODIES[kind], kind)
    check_address(
        document.header, address, fleet=case["fleet"], enrolment=case["enrolment"]
    )
    return document, sha256(payload)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_vector_is_taken(path: Path) -> None:
    case = json.loads(path.read_text())
    document, digest = receive(case)
    assert not isinstance(document, NotUnderstood)
    assert digest == case["payload_sha256"]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_vector_is_refused_with_its_code(path: Path) -> None:
    case = json.loads(path.read_text())
    with pytest.raises(ManifestError) as caught:
        receive(case)
    assert caught.value.code == case["error"]


def test_the_vectors_are_what_the_code_writes_today() -> None:
    for paths, cases in ((GOOD, make.good()), (BAD, make.bad())):
        assert {path.stem: path.read_text() for path in paths} == {
            name: make.text_of(case) for name, case in cases.items()
        }


texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_canonical_bytes_read_back_to_the_same_value(value: Any) -> None:
    assert parse(canonical(value), what="value", cap=1 << 20) == value


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"a":1,"a":1}', FormatError),
        (b'{"b":1,"a":1}', FormatError),
        (b'{"a": 1}', FormatError),
        (b'{"a":1.0}', FormatError),
        (b'{"a":NaN}', FormatError),
        (b'{"a":1e3}', FormatError),
        (b'{"a":9007199254740992}', FormatError),
        (b'"\\u0041"', FormatError),
        (b'"\\u0007"', FormatError),
        (b'"\\ud800"', FormatError),
        (b"\xff", FormatError),
        (b"", FormatError),
        (b"[" * 5000, SizeError),
        (b"[" * 40 + b"]" * 40, SizeError),
        (b" " * 101, SizeError),
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes, error: type[ManifestError]) -> None:
    with pytest.raises(error):
        parse(data, what="value", cap=100 if data.startswith(b" ") else 10_000)


def test_a_document_for_each_topic_is_refused_on_every_other_topic() -> None:
    documents = {
        device_topic(DEVICE, "assignment"): assignment_of().header,
        deployment_topic(GROUP): deployment_of().header,
    }
    topics = [
        *documents,
        device_topic("cam-2", "assignment"),
        device_topic(DEVICE, "report"),
        device_topic(DEVICE, "ack"),
        deployment_topic("b" * 32),
        "mf/v1/trust/timestamp",
        "mf/v1/epoch",
    ]
    for own, header in documents.items():
        for topic in topics:
            address = parse_topic(topic)
            assert address is not None
            if topic == own:
                check_address(header, address, fleet=FLEET, enrolment=ENROLMENT)
            else:
                with pytest.raises(AddressError):
                    check_address(header, address, fleet=FLEET, enrolment=ENROLMENT)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_flipped_byte_of_an_envelope_is_refused(data: st.DataObject) -> None:
    envelope = bytearray(seal("assignment", write(assignment_of()), KEYS[:1]))
    place = data.draw(st.integers(0, len(envelope) - 1))
    envelope[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ManifestError):
        unseal(bytes(envelope), "assignment", [KEYS[0].public], cap=cap_of("assignment"))


@given(st.sets(st.integers(0, 4), min_size=1, max_size=4), st.integers(1, 4))
def test_k_of_n_is_exact(signers: set[int], threshold: int) -> None:
    envelope = seal("assignment", b"{}", [KEYS[number] for number in sorted(signers)])
    allowed = [key.public for key in KEYS[:3]]
    count = len(signers & {0, 1, 2})

    def open_it() -> bytes:
        return unseal(envelope, "assignment", allowed, cap=10_000, threshold=threshold)

    if count >= threshold:
        assert open_it() == b"{}"
    else:
        with pytest.raises(SignatureError):
            open_it()


def test_one_key_that_signs_twice_counts_once() -> None:
    envelope = seal("assignment", b"{}", [KEYS[0], KEYS[0]])
    with pytest.raises(SignatureError):
        unseal(envelope, "assignment", [KEYS[0].public], cap=10_000, threshold=2)


def test_one_key_under_two_ids_counts_once() -> None:
    twins = [KEYS[0].public, PublicKey(KEYS[0].public.hex)]
    envelope = seal("assignment", b"{}", [KEYS[0], KEYS[0]])
    with pytest.raises(SignatureError):
        unseal(envelope, "assignment", twins, cap=10_000, threshold=2)


def test_more_than_four_signatures_are_refused() -> None:
    envelope = seal("assignment", b"{}", KEYS)
    assert len(KEYS) > MAX_SIGNATURES
    with pytest.raises(FormatError):
        unseal(envelope, "assignment", [KEYS[0].public], cap=10_000)


def test_a_document_of_one_type_cannot_be_passed_off_as_another() -> None:
    envelope = seal("deployment", write(deployment_of()), KEYS[:1])
    with pytest.raises(FormatError):
        unseal(envelope, "assignment", [KEYS[0].public], cap=40_000)


@pytest.mark.parametrize(
    "change",
    [
        {"slots": {"detector": {"by": "wish"}}},
        {"colour": "red"},
        {"labels": {"Line": "3"}},
        {"nonce": "short"},
    ],
    ids=["governor", "field", "label", "nonce"],
)
def test_a_verified_document_with_something_unknown_is_not_understood(
    change: dict[str, Any],
) -> None:
    value = {**json.loads(write(assignment_of())), **change}
    document = read_directed(canonical(value), Assignment, "assignment")
    assert isinstance(document, NotUnderstood)
    assert document.header.order == Order(1, 1)


@pytest.mark.parametrize(
    ("change", "feature"),
    [({"v": 1}, "version 1"), ({"needs": ["shadow"]}, "shadow"), ({"x": 1}, "header.x")],
)
def test_an_unknown_version_feature_or_header_field_is_named(
    change: dict[str, Any], feature: str
) -> None:
    value = json.loads(write(assignment_of()))
    value["header"].update(change)
    document = read_directed(canonical(value), Assignment, "assignment")
    assert isinstance(document, NotUnderstood)
    assert document.feature == feature


@pytest.mark.parametrize("field", ["fleet", "counter", "epoch", "min", "expires", "device"])
def test_a_header_without_a_field_is_refused(field: str) -> None:
    value = json.loads(write(assignment_of()))
    del value["header"][field]
    with pytest.raises(FormatError):
        read_directed(canonical(value), Assignment, "assignment")


def test_a_newer_order_replaces_an_older_is_refused_an_equal_must_be_identical() -> None:
    held, digest = Order(1, 5), hex_of(1)
    assert check_order(Order(1, 6), hex_of(2), held, digest, "x")
    assert check_order(Order(2, 1), hex_of(2), held, digest, "x")
    assert not check_order(held, digest, held, digest, "x")
    with pytest.raises(OrderError):
        check_order(Order(1, 4), hex_of(2), held, digest, "x")
    with pytest.raises(EquivocationError):
        check_order(held, hex_of(2), held, digest, "x")
