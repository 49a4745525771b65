"""Whether a version's number says what changed; pure.

Applications rely on a model's inputs, outputs and behaviour as on a library's interface, so
SemVer's promise is read thus: what an application exchanges with the model changes with the
major number only, and a minor or patch that behaves very differently deserves a look.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import NamedTuple

from modelfleet_manifests.release import Release, Schema, Tensor, Variant
from modelfleet_manifests.semver import Version

SHIFT = Decimal("0.02")
"""Accuracy that changes by more is a large shift."""
SLOWER = Decimal("1.5")
"""A median latency that grows by more is a large shift, too."""


class Level(StrEnum):
    """How well a number fits."""

    FITS = "fits"
    WARNING = "warning"
    MISFIT = "misfit"


class Change(NamedTuple):
    """One thing that changed: the number it asks for, and why in words."""

    level: Level
    why: str


class Fit(NamedTuple):
    """What the comparison came to.

    Attributes:
        level: The worst of the changes.
        against: The version before, "" for a first version.
        changes: What changed and is not said by the number.
    """

    level: Level
    against: str
    changes: Sequence[Change]


def fit(
    before: Release | None, version: str, schema: Schema, variants: Sequence[Variant]
) -> Fit:
    """Return whether `version` is a fitting number after `before`.

    Args:
        before: The highest released version below; None where there is none.
        version: A semantic version.
        schema: What goes in and comes out now.
        variants: As measured; only profiles that both have are compared.

    Raises:
        BadNameError: A version is not semantic.
    """
    if before is None:
        return Fit(Level.FITS, "", ())
    if Version(version).major > Version(before.version).major:
        return Fit(Level.FITS, before.version, ())  # a major number announces anything
    changes = [
        *(Change(Level.MISFIT, why) for why in schema_changes(before.schema, schema)),
        *(Change(Level.WARNING, why) for why in shifts(before.variants, variants)),
    ]
    order = list(Level)
    worst = max((one.level for one in changes), key=order.index, default=Level.FITS)
    return Fit(worst, before.version, changes)


def schema_changes(before: Schema, after: Schema) -> list[str]:
    """Return what an application that was written for `before` would trip over.

    A further output is no such thing, and neither is an axis that was fixed and is free.
    """
    found = []
    for what, old, new in (
        ("input", before.inputs, after.inputs),
        ("output", before.outputs, after.outputs),
    ):
        now = {tensor.name: tensor for tensor in new}
        found += [f"the {what} {one.name!r} is gone" for one in old if one.name not in now]
        for one in old:
            if one.name in now:
                found += _tensor_changes(what, one, now[one.name])
    known = {tensor.name for tensor in before.inputs}
    found += [
        f"the input {one.name!r} is new, and nobody feeds it"
        for one in after.inputs
        if one.name not in known
    ]
    return found


def shifts(before: Sequence[Variant], after: Sequence[Variant]) -> list[str]:
    """Return large changes in what was measured, by profile."""
    olds = {variant.profile: variant for variant in before}
    found = []
    for new in after:
        old = olds.get(new.profile)
        if old is None:
            continue
        was, now = _number(old, "accuracy"), _number(new, "accuracy")
        if was is not None and now is not None and abs(now - was) > SHIFT:
            found.append(f"{new.profile}: accuracy goes from {was:.4f} to {now:.4f}")
        was, now = _number(old, "latency-ms"), _number(new, "latency-ms")
        if was and now is not None and now > was * SLOWER:
            found.append(f"{new.profile}: a run takes {now:.3f} ms where it took {was:.3f}")
    return found


def _tensor_changes(what: str, old: Tensor, new: Tensor) -> list[str]:
    if old.datatype != new.datatype:
        return [f"the {what} {old.name!r} is {new.datatype} and was {old.datatype}"]
    same = len(old.shape) == len(new.shape) and all(
        was == now or (what == "input" and now == -1)
        for was, now in zip(old.shape, new.shape, strict=True)
    )
    if same:
        return []
    return [f"the {what} {old.name!r} has shape {new.shape} and had {old.shape}"]


def _number(variant: Variant, name: str) -> Decimal | None:
    metrics: Mapping[str, str] = variant.metrics
    try:
        return Decimal(metrics[name])
    except (KeyError, InvalidOperation):
        return None
