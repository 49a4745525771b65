"""Builds a variant again and says whether the bytes are the same, or what differs.

A quantized graph with a few nodes more can answer as its master on every input that anyone
tries, and as somebody else wishes on one that nobody does. No test of accuracy finds that;
building it again from the master does. Only in a limited child.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import onnx
from onnx import ModelProto, TensorProto

from modelfleet_manifests.profiles.recipe import (
    Dynamic,
    External,
    FourBits,
    Half,
    Recipe,
    Static,
)
from modelfleet_manifests.release import files_digest
from modelfleet_server.builds import auditing, door, trials
from modelfleet_server.builds.errors import BuildError, ModelError
from modelfleet_server.builds.graph import op_key, walk_nodes, walk_tensors
from modelfleet_server.builds.mapping import move_out
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
    samples = trials.read_calibration(calibration, facts.schema)
    built = folder / "built"
    built.mkdir()
    trials.build_candidate(Path(job.master), found.recipe, samples, built / trials.MODEL)
    variant = Path(job.variant)
    ours = _digests(built / trials.MODEL, _names(built))
    theirs = _digests(variant, job.beside)
    digest = files_digest((name or trials.MODEL, one) for name, one in ours.items())
    if ours == theirs:
        return Verdict(same=True, recipe=found.recipe.name, digest=digest)
    against = _audit(job, found, folder)
    return Verdict(
        same=False,
        audited=not against,
        recipe=found.recipe.name,
        digest=digest,
        differences=[
            *found.doubts,
            *_compare_files(theirs, ours),
            *_compare(variant, built / trials.MODEL),
        ],
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
    plain = folder / "reference" / trials.MODEL
    plain.parent.mkdir()
    recipe = msgspec.structs.replace(found.recipe, steps=before)
    trials.build_candidate(Path(job.master), recipe, None, plain)
    built = onnx.load(folder / "built" / trials.MODEL)
    grounds = auditing.Grounds(built, onnx.load(plain))
    theirs = onnx.load(job.variant)
    return [
        *_audit_layout(job, found.recipe, theirs, folder),
        *auditing.audit(theirs, grounds),
    ]


def _audit_layout(
    job: VerifyJob, recipe: Recipe, theirs: ModelProto, folder: Path
) -> list[str]:
    """Return what speaks against how a variant's weights lie in its files.

    Moved out here, they must give the very bytes: nothing may lie between or behind them.
    """
    model = ModelProto()
    model.CopyFrom(theirs)
    again = folder / "again"
    again.mkdir()
    for step in recipe.steps:
        if isinstance(step, External):
            move_out(model, step, again)
    onnx.save(model, again / trials.MODEL)
    ours = _digests(again / trials.MODEL, _names(again))
    held = _digests(Path(job.variant), job.beside)
    if ours.keys() != held.keys():
        return ["its files are not those that the recipe writes"]
    wrong = [name for name in job.beside if ours[name] != held[name]]
    return [f"{name} has other bytes than its weights, in order" for name in wrong]


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


def _compare_files(theirs: Mapping[str, str], ours: Mapping[str, str]) -> Iterable[str]:
    for name in sorted(theirs.keys() - ours.keys()):
        yield f"it has the file {name!r}, which the recipe does not write"
    for name in sorted(ours.keys() - theirs.keys()):
        yield f"it lacks the file {name!r}"


def _digests(graph: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of a variant's files by name; "" is its graph, however called."""
    beside = {name: graph.parent / name for name in names if graph.parent / name != graph}
    return {name: _hash(path) for name, path in {"": graph, **beside}.items()}


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
