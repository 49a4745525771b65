"""Profiles as data: what their files may say, and what devices know of them."""

import json
import subprocess
import sys
from importlib.resources import files

import msgspec
import pytest
from tools.compile_profiles import schema_text, table

from modelfleet_manifests import profiles
from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.profiles import (
    EXPORT_ONLY,
    PROFILES,
    Facts,
    best_variant,
    matching_profiles,
)
from modelfleet_manifests.profiles.definition import Profile, read_profile
from modelfleet_manifests.profiles.detection import Detect

MINIMAL = {
    "name": "acme-gateway",
    "title": "Acme gateway",
    "rank": 35,
    "detect": {"arch": ["aarch64"], "soc": ["acme"]},
    "providers": ["CPUExecutionProvider"],
    "candidates": [
        {
            "name": "fp32",
            "precision": "fp32",
            "steps": [{"step": "opset", "at_least": 17}],
        }
    ],
}


def test_what_devices_know_is_made_from_the_files() -> None:
    folder = files(profiles)
    assert (folder / "table.py").read_text() == table()
    assert (folder / "profile.schema.json").read_text() == schema_text()


def test_the_schema_names_every_field_and_step() -> None:
    schema = json.loads(schema_text())
    fields = schema["$defs"]["Profile"]["properties"]
    assert set(fields) == set(Profile.__struct_fields__)
    assert {"Static", "Dynamic", "Half", "FourBits", "RaiseOpset"} <= set(schema["$defs"])


def test_a_device_reads_no_yaml_and_no_recipes() -> None:
    """What the supervisor imports costs memory on every device."""
    code = (
        "import sys, modelfleet_manifests.profiles;"
        "sys.exit(' '.join({'yaml', 'json', 'modelfleet_manifests.profiles.recipe',"
        "'modelfleet_manifests.profiles.definition', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         check=False)  # fmt: skip
    assert ran.stderr.strip() == ""


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(jetson="R36.2", soc="NVIDIA Jetson Orin Nano"), "jetson-orin-trt"),
        (Facts(jetson="R36.2", soc="NVIDIA Jetson Thor"), "generic"),
        (Facts(jetson="R32.7", arch="aarch64"), "jetson-nano-cuda"),
        (Facts(arch="aarch64", cpu=["asimd", "asimddp"]), "arm64-dotprod"),
        (Facts(arch="aarch64", cpu=["asimd"]), "arm64"),
        (Facts(arch="armv7l"), "armv7"),
        (Facts(arch="x86_64", cpu=["avx2", "avx512_vnni"]), "x86-vnni"),
        (Facts(arch="x86_64", cpu=["avx2", "avx_vnni"]), "x86-vnni"),
        (Facts(arch="x86_64", cpu=["avx2", "avx_vnni", "u8s8_saturates"]), "x86-avx2"),
        (Facts(arch="x86_64", cpu=["avx2"]), "x86-avx2"),
        (Facts(arch="x86_64"), "generic"),
        (Facts(arch="riscv64"), "generic"),
    ],
)
def test_a_device_fits_the_most_specific_profile(facts: Facts, expected: str) -> None:
    assert matching_profiles(facts)[0] == expected
    assert matching_profiles(facts)[-1] == "generic"


def test_no_device_ever_fits_what_is_only_exported() -> None:
    assert EXPORT_ONLY == "microcontroller"
    assert EXPORT_ONLY not in PROFILES


def test_an_empty_rule_fits_every_device() -> None:
    assert Detect().fits(Facts())


def test_a_variant_beyond_the_runtime_is_not_the_best() -> None:
    class Made(msgspec.Struct):
        profile: str
        opset: int
        providers: list[str]

    facts = Facts(arch="x86_64", cpu=["avx2"], opset=17)
    plain, newer = Made("generic", 17, []), Made("x86-avx2", 21, [])
    assert best_variant(facts, [newer, plain]) is plain


def test_a_file_is_read_with_its_defaults() -> None:
    profile = read_profile(MINIMAL, "acme.yaml")
    assert profile.baseline.name == "fp32"
    assert profile.objective.accuracy_drop == "0.02"
    assert profile.detect
    assert profile.detect.fits(Facts(arch="aarch64", soc="ACME 7"))


QDQ = {"name": "int8", "precision": "int8",
       "steps": [{"step": "opset"}, {"step": "qdq"}]}  # fmt: skip
LAST = MINIMAL["candidates"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, "colour"),
        ({"rank": "high"}, "rank"),
        ({"name": "Acme Gateway"}, "name"),
        ({"detect": {"cpu": ["avx2"]}}, "cpu"),
        ({"candidates": []}, "candidates"),
        ({"candidates": [QDQ]}, "always works"),
        ({"candidates": [LAST, LAST]}, "one name"),
        ({"opset": 15}, "higher one"),
        ({"candidates": [{**LAST, "steps": [{"step": "prepare"}]}]}, "begin with"),
        ({"candidates": [{**LAST, "steps": [{"step": "magic"}]}]}, "magic"),
        ({"candidates": [{**LAST, "precision": "fp16"}]}, "steps make another"),
        (
            {
                "candidates": [
                    {
                        **LAST,
                        "steps": [
                            {"step": "opset"},
                            {"step": "external"},
                            {"step": "clean"},
                        ],
                    }
                ]
            },
            "must be the last",
        ),
        ({"objective": {"accuracy_drop": 0.02}}, "accuracy_drop"),
    ],
)
def test_a_file_with_a_mistake_is_refused_and_named(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(FormatError) as caught:
        read_profile({**MINIMAL, **change}, "acme.yaml")
    assert "acme.yaml" in caught.value.what
    assert words in caught.value.why
