"""A profile's file: detection, providers, ceilings, candidates, what must be proven.

`profile.schema.json` beside this module is `schema()`, for editors and operators.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.profiles.detection import Detect
from modelfleet_manifests.profiles.recipe import External, Half, RaiseOpset, Recipe

Share = Annotated[str, Meta(pattern=r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$")]
"""A share of one as a decimal string: recipes and budgets are digested without floats."""


class Objective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes one candidate better than another.

    Attributes:
        accuracy_drop: How much less accurate than its master a variant may be.
        disagreement: How often it may answer otherwise than its master: the upper end of
            the 95 % interval must not be above.
        golden_distance: How far its answers to the golden inputs may be from the master's:
            the Euclidean distance as a share of the length of the master's. These are the
            inputs that are hardest, so it finds what is broken, not what is rounded.
        latency: `measured`: the machine that builds computes as the profile's devices do,
            and a candidate must be faster than the last one. `assumed`: it does not; the
            order of the candidates is the order of their speed.
        faster: Where measured: at most this share of the last one's time. Less is not
            worth another precision, and two builds of one model should not differ by
            chance.
    """

    accuracy_drop: Share = "0.02"
    disagreement: Share = "0.08"
    golden_distance: Share = "0.5"
    latency: Literal["measured", "assumed"] = "assumed"
    faster: Share = "0.8"


class Emulated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A processor that QEMU's user mode can stand in for: for numbers, never for times."""

    arch: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,16}$")]
    cpu: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.,+-]{1,63}$")]


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be shown before a variant counts.

    Attributes:
        emulated: It keeps within its budget on these processors, where QEMU is installed.
        reference_devices: On so many enrolled devices; 0 asks none.
    """

    emulated: list[Emulated] = []
    reference_devices: Annotated[int, Meta(ge=0, le=100)] = 0


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of hardware.

    Attributes:
        name: What variants and devices call it.
        title: For people.
        rank: Profiles are tried in this order, lowest first; unique.
        detect: Which devices fit; null where none ever does and artefacts are exported.
        providers: Execution providers in order.
        opset: The highest opset that a variant may need.
        ir: The highest file format that a variant may have.
        memory_mb: What loading and running a variant may take, MiB.
        candidates: In order of preference; the last is what ships where no other pays.
        objective: How they are compared.
        prove: What must be shown.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    title: Annotated[str, Meta(min_length=1, max_length=120)]
    rank: Annotated[int, Meta(ge=0, le=1000)]
    detect: Detect | None
    providers: Annotated[list[str], Meta(min_length=1, max_length=8)]
    opset: Annotated[int, Meta(ge=7, le=1000)] = 21
    ir: Annotated[int, Meta(ge=3, le=1000)] = 10
    memory_mb: Annotated[int, Meta(ge=1, le=1 << 20)] = 2048
    candidates: Annotated[list[Recipe], Meta(min_length=1, max_length=16)]
    objective: Objective = Objective()
    prove: Proof = Proof()

    @property
    def baseline(self) -> Recipe:
        """What ships where no other candidate pays."""
        return self.candidates[-1]


def read_profile(values: object, source: str) -> Profile:
    """Return the profile in a file's values, as a YAML or JSON reader gives them.

    Args:
        values: The document.
        source: The file's name, for errors.

    Raises:
        FormatError: A field is missing, unknown or out of range, two candidates share a
            name, or one cannot meet the profile's ceiling.
    """
    try:
        profile = msgspec.convert(values, Profile)
    except msgspec.ValidationError as error:
        raise FormatError(f"the profile in {source}", str(error)) from None
    problem = _problem(profile)
    if problem:
        raise FormatError(f"the profile in {source}", problem)
    return profile


def schema() -> dict[str, Any]:
    """Return the JSON schema of a profile's file."""
    found = msgspec.json.schema(Profile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "modelfleet hardware profile",
        **found,
    }


def _problem(profile: Profile) -> str:
    names = [recipe.name for recipe in profile.candidates]
    if len(set(names)) != len(names):
        return "has two candidates of one name"
    if profile.baseline.unless or profile.baseline.calibrated:
        return f"must end with a candidate that always works, not {profile.baseline.name!r}"
    found = (_problem_of(recipe, profile) for recipe in profile.candidates)
    return next(filter(None, found), "")


def _problem_of(recipe: Recipe, profile: Profile) -> str:
    first = recipe.steps[0]
    if not isinstance(first, RaiseOpset):
        return f"has the candidate {recipe.name!r} that does not begin with step: opset"
    if max(first.at_least, first.at_most or 0) > profile.opset:
        return f"allows opset {profile.opset}, {recipe.name!r} makes a higher one"
    if any(isinstance(step, External) for step in recipe.steps[:-1]):
        return f"has steps after step: external in {recipe.name!r}; it must be the last"
    halves = any(isinstance(step, Half) for step in recipe.steps)
    if halves != (recipe.precision == "fp16"):
        return f"calls {recipe.name!r} {recipe.precision}, its steps make another"
    return ""
