"""Ranges of versions: what a person writes, what is signed, which versions are in it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelfleet_manifests.errors import BadNameError, ManifestError
from modelfleet_manifests.recalls import (
    Recalls,
    Subject,
    Tombstone,
    is_range,
    names_of,
    parse_range,
    read_range,
    read_tombstone,
)
from modelfleet_manifests.semver import Version

numbers = st.integers(0, 3).map(str)
words = st.sampled_from(["0", "1", "10", "a", "rc", "-", "a-b", "0a"])
versions = st.builds(
    lambda core, pre: ".".join(core) + (f"-{'.'.join(pre)}" if pre else ""),
    st.tuples(numbers, numbers, numbers),
    st.lists(words, max_size=2),
)
MODEL = "demo/digits"


@given(versions, versions)
def test_half_open_is_from_the_first_on_and_below_the_last(start: str, end: str) -> None:
    if not Version(start) < Version(end):
        with pytest.raises(BadNameError, match="holds no version"):
            parse_range(f"{MODEL}@>={start},<{end}")
        return
    found = parse_range(f"{MODEL}@>={start},<{end}")
    assert found.covers(MODEL, start)
    assert not found.covers(MODEL, end)
    assert not found.covers("demo/other", start)


@given(versions, versions)
@example("1.0.0", "1.0.1-0")
@example("1.0.0-a", "1.0.0-a.0")
def test_each_bound_means_what_it_says(bound: str, version: str) -> None:
    one, other = Version(version), Version(bound)
    said = {">=": one >= other, ">": one > other, "<": one < other, "<=": one <= other}
    for sign, expected in (said | {"=": one == other}).items():
        found = parse_range(f"{MODEL}@{sign}{bound}")
        assert found.covers(MODEL, version) is expected, sign


@given(st.none() | versions, st.none() | versions)
def test_what_is_signed_reads_back_as_what_was_written(
    start: str | None, end: str | None
) -> None:
    bounds = [f">={start}"] if start else []
    bounds += [f"<{end}"] if end else []
    try:
        found = parse_range(f"{MODEL}@{','.join(bounds)}")
    except BadNameError:
        return
    assert read_range(found.name) == found
    assert parse_range(str(found)) == found
    assert is_range(str(found))
    path = Tombstone("stops", "range", found.name).path
    assert path.count("/") == 3  # what the role's delegation allows
    assert read_tombstone(path) == Tombstone("stops", "range", found.name)


@pytest.mark.parametrize(
    "text",
    [
        "demo/digits",
        "demo/digits@",
        "demo/digits@1.0.0",
        "demo/digits@>=1.0",
        "demo/digits@>=1.0.0,>1.1.0",
        "demo/digits@<1.0.0,<=1.1.0",
        "demo/digits@>=2.0.0,<1.0.0",
        "demo/digits@>=1.0.0,<1.0.0",
        "demo/digits@~1.0.0",
        "demo/digits@>=1.0.0,",
        "digits@>=1.0.0",
        "root/digits@>=1.0.0",
        f"{'a' * 63}/{'b' * 63}@>=1.0.0-{'c' * 50},<2.0.0-{'c' * 50}",
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(BadNameError):
        parse_range(text)


@pytest.mark.parametrize(
    "name",
    [
        "demo:digits",
        "demo:digits@",
        "demo:digits@,",
        "demo:digits@1.0.0",
        "demo:digits@1.0.0,1.0.0",
        "demo:digits@2.0.0,1.0.0",
        "demo/digits@1.0.0,2.0.0",
        "demo:digits@>=1.0.0,",
        "demo:digits@1.0.0,2.0.0,",
        "demo:a:b@1.0.0,",
        " demo:digits@1.0.0,",
        "*@1.0.0,",
    ],
)
def test_a_signed_name_has_one_form_only(name: str) -> None:
    with pytest.raises(ManifestError):
        read_range(name)
    assert names_of("stops", [f"tombstone/stop/range/{name}"]) == (
        set(),
        [f"tombstone/stop/range/{name}"],
    )


@given(st.text(max_size=60))
@example("tombstone/stop/release/" + "a" * 64)
@example("tombstone/stop/range/demo:digits@1.0.0,")
def test_any_path_is_a_tombstone_in_its_one_form_or_none(path: str) -> None:
    try:
        found = read_tombstone(path)
    except ManifestError:
        return
    assert found.path == path


def test_a_range_says_nothing_of_other_models_and_a_block_does_not_stop() -> None:
    recalls = Recalls(blocked=frozenset({"demo:digits@1.0.0,2.0.0"}))
    inside = Subject(MODEL, "1.5.0", frozenset({"a" * 64}))
    assert recalls.blocks(inside)
    assert not recalls.stops(inside)
    assert not recalls.blocks(inside._replace(model="demo/letters"))
    assert not recalls.blocks(inside._replace(version="2.0.0"))


@given(st.lists(versions, min_size=2, max_size=2), versions)
def test_a_stop_also_blocks(bounds: list[str], version: str) -> None:
    start, end = sorted(map(Version, bounds))
    if start == end:
        return
    name = parse_range(f"{MODEL}@>={start},<{end}").name
    recalls = Recalls(stopped=frozenset({name}))
    one = Subject(MODEL, version, frozenset())
    assert recalls.stops(one) == recalls.blocks(one) == (start <= Version(version) < end)
