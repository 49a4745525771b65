"""Our encoder writes what securesystemslib writes: metadata and documents have one form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from modelfleet_manifests.canonical import MAX_INTEGER, canonical, parse
from modelfleet_manifests.errors import FormatError, SizeError

text = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=0x20), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.integers(30, 36))
def test_nesting_is_limited_alike_on_both_ways(value: object, depth: int) -> None:
    for _ in range(depth):
        value = [value, "1234567890123456"] if depth % 2 else [value]
    fits = True
    try:
        data = canonical(value)
    except SizeError:
        fits, data = False, str(encode_canonical(value)).encode()  # type: ignore[arg-type]
    if fits:
        assert parse(data, what="value", cap=1 << 20) == value
    else:
        with pytest.raises(SizeError):
            parse(data, what="value", cap=1 << 20)


@pytest.mark.parametrize(
    "data",
    [
        b'"\\n"',
        b'"\\u0001"',
        b'"\\ud800"',
        b"9007199254740992",
        b"-9007199254740992",
        b"1.5",
    ],
)
def test_what_may_not_stand_in_a_document_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse(data, what="value", cap=1 << 20)


@given(values)
def test_the_bytes_are_those_of_securesystemslib_and_read_back(value: object) -> None:
    data = canonical(value)
    assert data == str(encode_canonical(value)).encode()  # type: ignore[arg-type]
    assert parse(data, what="value", cap=1 << 20) == value
