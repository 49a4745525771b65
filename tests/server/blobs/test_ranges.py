"""Which bytes a `Range` header asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.blobs.ranges import Span, UnsatisfiableError, wanted_span


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-", Span(0, 10)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=3-5", Span(3, 6)),
        ("bytes=9-", Span(9, 10)),
        ("bytes=3-99", Span(3, 10)),
        ("bytes=-4", Span(6, 10)),
        ("bytes=-99", Span(0, 10)),
    ],
)
def test_a_single_range_is_the_bytes_it_names(header: str, span: Span) -> None:
    assert wanted_span(header, 10) == span


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-3",
        "bytes=a-b",
        "items=0-1",
        "bytes=0-1,3-4",
        "bytes=0-1 x",
        "bytes=٣-",
        f"bytes={'9' * 5000}-",
    ],
)
def test_what_is_not_a_single_range_is_ignored(header: str | None) -> None:
    assert wanted_span(header, 10) is None


@pytest.mark.parametrize(
    ("header", "length"), [("bytes=10-", 10), ("bytes=11-12", 10), ("bytes=-0", 10)]
)
def test_a_range_without_a_single_byte_is_refused(header: str, length: int) -> None:
    with pytest.raises(UnsatisfiableError):
        wanted_span(header, length)


@given(start=st.integers(0, 50), end=st.integers(0, 50), length=st.integers(1, 40))
def test_a_span_lies_inside_the_blob(start: int, end: int, length: int) -> None:
    try:
        span = wanted_span(f"bytes={start}-{end}", length)
    except UnsatisfiableError:
        assert start >= length
    else:
        if span is None:
            assert end < start
        else:
            assert span == Span(start, min(end + 1, length))
