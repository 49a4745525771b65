"""What may be appended to a partial download, and when waiting ends."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.link.partial import Partial, Rate
from modelfleet_agent.link.ranges import Reading, read_answer

RATE = Rate()
numbers = st.integers(0, 50)
ranges = st.one_of(
    st.text(max_size=20),
    st.builds(lambda a, b, c: f"bytes {a}-{b}/{c}", numbers, numbers, numbers),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "content-range": ranges,
        "content-length": st.one_of(st.text(max_size=5), numbers.map(str)),
        "etag": st.sampled_from(['"a"', '"b"', 'W/"a"', ""]),
    },
)


@given(
    status=st.sampled_from([200, 206, 301, 304, 403, 404, 416, 500]),
    headers=headers,
    length=st.integers(1, 50),
    etag=st.sampled_from(["", '"a"']),
    data=st.data(),
)
def test_only_the_very_range_of_the_very_file_is_appended(
    status: int, headers: dict[str, str], length: int, etag: str, data: st.DataObject
) -> None:
    have = data.draw(st.integers(0, length - 1))
    end = data.draw(st.integers(have + 1, length))
    reading = read_answer(status, headers, (have, end), length, etag)
    if reading is Reading.APPEND:
        assert (have, end) != (0, length)
        assert status == 206
        assert headers["content-range"] == f"bytes {have}-{end - 1}/{length}"
        assert not etag or headers.get("etag", etag) == etag
    if reading is Reading.RESTART:
        assert status == 200


def partial(path: Path, received: int, seconds_ago: float) -> Partial:
    made = Partial("a" * 64, 1 << 30, path / "part", None, None)
    made._window = (monotonic_s() - seconds_ago, 0)
    made.received = received
    return made


def test_a_server_that_drips_holds_nobody_up(tmp_path: Path) -> None:
    few = int(RATE.least * RATE.window_s) - 1
    with pytest.raises(RetryableError) as caught:
        partial(tmp_path, few, RATE.window_s + 1).check()
    assert caught.value.code == "E_SLOW"


def test_a_slow_link_is_no_drip(tmp_path: Path) -> None:
    enough = int(RATE.least * RATE.window_s) * 2
    made = partial(tmp_path, enough, RATE.window_s + 1)
    made.check()
    made.check()  # a new window has begun


def resumed(path: Path) -> Partial:
    made = partial(path, 0, 0)
    made.resume()
    return made


def test_a_weak_etag_is_not_kept(tmp_path: Path) -> None:
    made = partial(tmp_path, 0, 0)
    made.begin("http://a", '"strong"', keep=0)
    assert resumed(tmp_path).note.etag == '"strong"'
    made.begin("http://a", 'W/"weak"', keep=0)
    assert resumed(tmp_path).note.etag == ""


def test_what_was_proven_outlives_a_torn_tail(tmp_path: Path) -> None:
    made = partial(tmp_path, 0, 0)
    made.begin("http://a", "", keep=0)
    made.path.write_bytes(b"proven")
    made.add(b"proven")
    made.prove(6)
    made.path.write_bytes(b"proven" + bytes(10))  # zeros, as after a power cut
    again = resumed(tmp_path)
    assert (again.resumed, again.path.read_bytes()) == (6, b"proven")
    again.add(b" more")
    again.path.write_bytes(b"proven more")
    again.prove(11)
    assert resumed(tmp_path).resumed == 11


@pytest.mark.parametrize("rotten", [b"Proven and more", b"prov"])
def test_what_is_not_what_was_proven_is_dropped(tmp_path: Path, rotten: bytes) -> None:
    made = partial(tmp_path, 0, 0)
    made.begin("http://a", "", keep=0)
    made.add(b"proven")
    made.prove(6)
    made.path.write_bytes(rotten)
    assert resumed(tmp_path).have == 0
    assert not list(tmp_path.iterdir())
