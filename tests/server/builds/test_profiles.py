"""The server's profiles: the shipped files, and an operator's own."""

from pathlib import Path

import pytest

from modelfleet_manifests.profiles import EXPORT_ONLY, PROFILES
from modelfleet_server.builds.errors import ProfileError, UnknownProfileError
from modelfleet_server.builds.profiles import (
    find_profile,
    load_profiles,
    shipped_profiles,
)

OWN = """
name: acme
title: Acme gateway
rank: 35
detect: {arch: [aarch64], soc: [acme]}
providers: [CPUExecutionProvider]
candidates:
  - {name: fp32, precision: fp32, steps: [{step: opset, at_least: 17}]}
"""


def test_every_profile_of_the_issue_ships() -> None:
    assert list(shipped_profiles()) == [*PROFILES, EXPORT_ONLY]
    assert list(PROFILES) == [
        *("jetson-orin-trt", "jetson-nano-cuda", "arm64-dotprod", "arm64", "armv7"),
        *("x86-vnni", "x86-avx2", "generic"),
    ]


def test_no_profile_asks_for_an_opset_above_its_ceiling() -> None:
    assert shipped_profiles()["jetson-nano-cuda"].opset == 15
    with pytest.raises(UnknownProfileError, match="abacus"):
        find_profile("abacus", shipped_profiles())


def test_an_operators_profile_stands_beside_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(OWN)
    names = list(load_profiles(tmp_path))
    assert names.index("acme") == names.index("arm64-dotprod") + 1
    assert set(names) == {*shipped_profiles(), "acme"}


def test_an_operator_may_change_what_is_built_for_a_shipped_profile(tmp_path: Path) -> None:
    own = OWN.replace("acme\n", "armv7\n", 1).replace("35", "50")
    own = own.replace("{arch: [aarch64], soc: [acme]}", "{arch: [armv7l]}")
    (tmp_path / "armv7.yaml").write_text(own)
    assert load_profiles(tmp_path)["armv7"].title == "Acme gateway"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("acme", "name: [", "not YAML"),
        ("acme", OWN.replace("rank: 35", "rank: 30"), "rank 30 of 'arm64-dotprod'"),
        ("acme", OWN.replace("rank: 35", "rank: low"), "rank"),
        ("other", OWN, "Call it acme.yaml"),
        ("generic", OWN.replace("name: acme", "name: generic"), "which devices fit"),
        ("acme", "#" * 70_000, "more than 65536 bytes"),
        ("acme", OWN + "\nboom: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_mistake_is_refused_and_named(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        load_profiles(tmp_path)
    assert words in str(caught.value)
    assert caught.value.hint


def test_without_a_folder_there_are_the_shipped_ones(tmp_path: Path) -> None:
    assert load_profiles(tmp_path / "nowhere") == shipped_profiles()
