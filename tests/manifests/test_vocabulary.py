"""Versions, selectors, names, topics, profiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_manifests.errors import BadNameError
from modelfleet_manifests.names import check_device, check_name, split_model
from modelfleet_manifests.profiles import Facts, matching_profiles
from modelfleet_manifests.selector import check_label, parse_selector
from modelfleet_manifests.semver import Version, is_lower
from modelfleet_manifests.topics import device_topic, parse_topic

# The order of precedence given as an example in SemVer 2.0.0, section 11.
ASCENDING = [
    "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
]  # fmt: skip


def test_precedence_is_that_of_the_standard() -> None:
    assert sorted(sorted(ASCENDING), key=Version) == ASCENDING
    assert is_lower("1.9.0", "1.10.0")


@pytest.mark.parametrize(
    "text", ["1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+a", "1.0.0\n"]
)
def test_what_is_not_semantic_is_refused_and_named(text: str) -> None:
    with pytest.raises(BadNameError, match="not semantic"):
        Version(text)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("site=plant-b", True),
        ("site==plant-b", True),
        ("site=plant-a", False),
        ("site!=plant-a", True),
        ("line!=3", False),
        ("line in (2, 3)", True),
        ("line notin (2, 3)", False),
        ("zone notin (2)", True),
        ("gpu", False),
        ("!gpu", True),
        ("site=plant-b, line in (1,3), !gpu", True),
    ],
)
def test_a_selector_matches_by_its_terms(text: str, matches: bool) -> None:
    labels = {"site": "plant-b", "line": "3"}
    assert parse_selector(text).matches(labels) is matches


@pytest.mark.parametrize(
    "text", ["", "=x", "a=", "a in ()", "A=b", "a=b,,c", "a in (b", "a b"]
)
def test_a_selector_that_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(BadNameError):
        parse_selector(text)


@pytest.mark.parametrize(("key", "value"), [("Site", "b"), ("site", ""), ("site", "a b")])
def test_a_label_that_breaks_the_grammar_is_refused(key: str, value: str) -> None:
    with pytest.raises(BadNameError):
        check_label(key, value)


@pytest.mark.parametrize("text", ["", "-a", "A", "a/b", "a" * 64, "a b", "ä"])
def test_a_name_that_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(BadNameError):
        check_name(text, "slot")


@pytest.mark.parametrize("text", ["ab", "#", "+", "cam/1", "cam$1"])
def test_a_device_id_cannot_reach_beyond_its_topic(text: str) -> None:
    with pytest.raises(BadNameError):
        check_device(text)


@pytest.mark.parametrize("text", ["digits", "a/b/c", "root/x", "director/x", "Demo/x"])
def test_a_model_is_a_namespace_and_a_name_and_never_a_role(text: str) -> None:
    with pytest.raises(BadNameError):
        split_model(text)


def test_a_topic_says_what_it_carries_and_for_whom() -> None:
    address = parse_topic(device_topic("cam-1", "report"))
    assert address is not None
    assert (address.kind, address.device, address.group) == ("report", "cam-1", None)


@given(st.text())
def test_any_other_topic_is_none_of_ours(text: str) -> None:
    assert parse_topic(f"other/{text}") is None


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        (Facts(arch="aarch64", jetson="R36.2", soc="Jetson Orin Nano"), "jetson-orin-trt"),
        (Facts(arch="aarch64", jetson="R32.7", soc="Jetson Nano"), "jetson-nano-cuda"),
        (Facts(arch="aarch64", cpu=["asimddp"]), "arm64-dotprod"),
        (Facts(arch="aarch64"), "arm64"),
        (Facts(arch="armv7l"), "armv7"),
        (Facts(arch="x86_64", cpu=["avx2", "avx_vnni"]), "x86-vnni"),
        (Facts(arch="x86_64", cpu=["avx2"]), "x86-avx2"),
        (Facts(arch="x86_64"), "generic"),
        (Facts(arch="riscv64"), "generic"),
    ],
)
def test_a_device_fits_its_most_specific_profile_first(facts: Facts, first: str) -> None:
    profiles = matching_profiles(facts)
    assert profiles[0] == first
    assert profiles[-1] == "generic"
