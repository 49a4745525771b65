"""Builds a variant again and says whether the bytes are the same, or what differs.

A quantized graph with a few nodes more can answer as its master on every input that anyone
tries, and as somebody else wishes on one that nobody does. No test of accuracy finds that;
building it again from the master does. Only in a limited child.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import onnx
from onnx import ModelProto, TensorProto

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.profiles.recipe import Dynamic, FourBits, Half, Recipe, Static
from modelfleet_server.builds import auditing, door, making
from modelfleet_server.builds.errors import BuildError, ModelError
from modelfleet_server.builds.graph import op_key, walk_nodes, walk_tensors
from modelfleet_server.builds.messages import Verdict, VerifyJob
from modelfleet_server.builds.recipes import recipe_digest
from modelfleet_server.builds.toolchain import (
    installed_tools,
    lock_file,
    strays,
    toolchain_digest,
)

QUANTIZING = (Dynamic, FourBits, Half, Static)
TOLD = 12
"""Differences that are told one by one."""


class _Found(NamedTuple):
    """The recipe to repeat, and why it may not be quite the same one."""

    recipe: Recipe
    doubts: list[str]


def verify(job: VerifyJob, folder: Path) -> Verdict:
    """Build the variant of `job` again in `folder` and compare.

    Raises:
        AppError: The master or the calibration set is refused, or the recipe is unknown or
            fails.
    """
    facts = door.check(Path(job.master))
    found = _find_recipe(job)
    calibration = Path(job.calibration) if job.calibration else None
    samples = making.read_calibration(calibration, facts.schema)
    out = folder / making.MODEL
    making.build_candidate(Path(job.master), found.recipe, samples, out)
    variant = Path(job.variant).read_bytes()
    built = out.read_bytes()
    if built == variant:
        return Verdict(same=True, recipe=found.recipe.name, digest=sha256(built))
    against = _audit(job, found, folder)
    return Verdict(
        same=False,
        audited=not against,
        recipe=found.recipe.name,
        digest=sha256(built),
        differences=[*found.doubts, *_compare(Path(job.variant), out)],
        against=against[:TOLD],
    )


def _audit(job: VerifyJob, found: _Found, folder: Path) -> list[str]:
    """Return what speaks against a variant that is not the same, nothing if it may pass."""
    try:
        door.check(Path(job.variant))
    except ModelError as error:
        return [error.what]
    whole = [isinstance(step, QUANTIZING) for step in found.recipe.steps]
    before = found.recipe.steps[: whole.index(True)] if any(whole) else found.recipe.steps
    plain = folder / "reference.onnx"
    recipe = msgspec.structs.replace(found.recipe, steps=before)
    making.build_candidate(Path(job.master), recipe, None, plain)
    built = onnx.load(folder / making.MODEL)
    grounds = auditing.Grounds(built, onnx.load(plain))
    return auditing.audit(onnx.load(job.variant), grounds)


def _find_recipe(job: VerifyJob) -> _Found:
    """Return the recipe of that digest; by name where the digest is of other tools."""
    tools = installed_tools()
    recipes = job.profile.candidates
    for recipe in recipes:
        if recipe_digest(recipe, tools) == job.recipe:
            return _Found(recipe, [])
    doubts = ["it was built by steps that are not those of this profile today"]
    if job.toolchain != toolchain_digest(tools, lock_file()):
        here = ", ".join(f"{name} {version}" for name, version in sorted(tools.items()))
        own = [f"here is {it}, as the lock says" for it in strays(tools, lock_file())]
        doubts = [f"it was built with other tools than here ({here})", *own]
    for recipe in recipes:
        if recipe.name == job.name:
            return _Found(recipe, doubts)
    raise BuildError(
        f"{job.profile.name} has no recipe {job.name!r}, and none of the digest "
        f"{job.recipe}",
        "Verify it with the release of modelfleet that built it.",
    )


def _compare(variant: Path, built: Path) -> list[str]:
    """Say in words what `variant` has that `built` has not, and the other way round."""
    try:
        door.check(variant)
    except ModelError as error:
        return [f"it is not even a model that the door lets in: {error.what}"]
    theirs, ours = onnx.load(variant), onnx.load(built)
    told = [*_compare_nodes(theirs, ours), *_compare_tensors(theirs, ours)]
    if not told:
        told = ["names or descriptions in the file, not what it computes"]
    if len(told) > TOLD:
        told = [*told[:TOLD], f"and {len(told) - TOLD} more"]
    return told


def _compare_nodes(theirs: ModelProto, ours: ModelProto) -> Iterable[str]:
    mine, others = _nodes(ours), _nodes(theirs)
    for what, more in (("adds", others - mine), ("lacks", mine - others)):
        kinds = Counter(name for name, _ in more.elements())
        for name, count in sorted(kinds.items()):
            yield f"it {what} or changes {count} {name}"
    imports = [
        {(i.domain, i.version) for i in model.opset_import} for model in (theirs, ours)
    ]
    if imports[0] != imports[1]:
        yield f"it is made for {sorted(imports[0])} and not for {sorted(imports[1])}"


def _nodes(model: ModelProto) -> Counter[tuple[str, bytes]]:
    """Count nodes by operator and by all that decides what they compute."""
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    counted: Counter[tuple[str, bytes]] = Counter()
    for nodes in bodies:
        for node in walk_nodes(nodes):
            bare = onnx.NodeProto()
            bare.CopyFrom(node)
            bare.ClearField("name")
            bare.ClearField("doc_string")
            counted[":".join(filter(None, op_key(node))), _bytes(bare)] += 1
    return counted


def _compare_tensors(theirs: ModelProto, ours: ModelProto) -> Iterable[str]:
    others, mine = _tensors(theirs), _tensors(ours)
    for name in sorted(others.keys() | mine.keys()):
        if name not in mine:
            yield f"it adds the tensor {name!r} {list(others[name].dims)}"
        elif name not in others:
            yield f"it lacks the tensor {name!r}"
        elif _bytes(others[name]) != _bytes(mine[name]):
            yield f"the numbers of the tensor {name!r} are others"


def _tensors(model: ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in walk_tensors(model) if tensor.name}


def _bytes(message: onnx.NodeProto | TensorProto) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data
