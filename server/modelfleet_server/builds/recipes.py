"""What is tried for a profile, and by what digest a recipe goes; pure but for its data.

What the shipped candidates rest on was measured: int8 on small models is often slower than
fp32, S8S8 is slow on x86 and right on ARM, U8S8 saturates under AVX2 unless weights keep to
7 bits, and a step that ended without an error may still have made a model that does not
load. So a profile names several, and each is loaded, run and scored before it counts.
"""

import msgspec

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.profiles.recipe import (
    Clean,
    External,
    FourBits,
    RaiseOpset,
    Recipe,
    Step,
)
from modelfleet_server.builds.profiles import find_profile, shipped_profiles

REVISION = 3
"""Raised with every change of `steps` that changes the bytes it makes."""
StepText = dict[str, str | int | bool | list[str]]
Tools = dict[str, str]
"""Versions by distribution name: onnx, onnxruntime, numpy."""

DEFAULT_PROFILES = (
    "jetson-orin-trt",
    "arm64-dotprod",
    "arm64",
    "x86-vnni",
    "x86-avx2",
    "generic",
)
"""What a version is built for where nobody says otherwise."""


def plan_for(profile: str) -> Profile:
    """Return what is tried for a shipped `profile`.

    Raises:
        UnknownProfileError: There is none.
    """
    return find_profile(profile, shipped_profiles())


def describe(recipe: Recipe, tools: Tools) -> list[StepText]:
    """Return the steps of `recipe` with all that decides their outcome."""
    ours = f"modelfleet recipes {REVISION}"
    steps: list[StepText] = [{"step": "begin", "tool": ours}]
    for step in recipe.steps:
        values = msgspec.to_builtins(step)
        given = {key: value for key, value in values.items() if value is not None}
        tool = _TOOLS.get(type(step), "onnxruntime")
        steps.append({**given, "tool": f"{tool} {tools[tool]}" if tool else ours})
    return steps


def recipe_digest(recipe: Recipe, tools: Tools) -> str:
    """Name a recipe: the same steps by the same tools, whatever it is called."""
    return sha256(canonical(list(describe(recipe, tools))))


_TOOLS: dict[type[Step], str] = {RaiseOpset: "onnx", Clean: "", FourBits: "", External: ""}
"""Which tool does a step where it is not ONNX Runtime; "" are we ourselves."""
