"""The stack of steps of one slot, and the few ways in which it may change. Pure.

A step goes on top only if every release below it stands in its `rollback_to`: then undo is
always allowed on every device.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import UNSET

from modelfleet_manifests.deployment import ALL, MAX_STEPS, Admit, Paused, Step
from modelfleet_manifests.release import Release
from modelfleet_server.kit.errors import ConflictError


class StackError(ConflictError):
    """The steps of a slot cannot change this way."""

    code = "steps"


def put_on_top(
    steps: Sequence[Step], new: Step, releases: Mapping[str, Release]
) -> list[Step]:
    """Return the stack with `new` on top.

    Args:
        steps: Newest first.
        new: The step to add.
        releases: By id: that of `new` and those below.

    Raises:
        StackError: A release below is not in the new one's `rollback_to`, so it could not
            be undone; or nine steps would not fit and none may be dropped.
    """
    allowed = set(releases[new.release.id].rollback_to)
    for step in steps:
        below = step.release
        if below.id != new.release.id and below.version not in allowed:
            raise StackError(
                f"{new.release.model} {new.release.version} does not let a device return "
                f"to {below.version}, so it could not be undone",
                "Publish it with --rollback-to, or roll back to one release first.",
                version=new.release.version,
                below=below.version,
            )
    return [new, *make_room(steps)]


def make_room(steps: Sequence[Step]) -> list[Step]:
    """Return the stack with room for one more: what lies below a finished step may go.

    Raises:
        StackError: There is no room and nothing may go.
    """
    kept = list(steps)
    while len(kept) >= MAX_STEPS:
        if not any(is_finished(step) for step in kept[:-1]):
            raise StackError(
                f"the slot has {len(kept)} steps, at most {MAX_STEPS} fit",
                "Finish or undo one of the rollouts.",
            )
        kept.pop()
    return kept


def is_finished(step: Step) -> bool:
    """Say whether a step admits everyone at once: nothing below it is ever reached."""
    return step.admit.to == ALL and step.begin is UNSET


def undo(steps: Sequence[Step], step_id: str) -> list[Step]:
    """Return the stack without its top step: devices fall to what they had without it.

    Raises:
        StackError: The step is not on top, or it is the only one.
    """
    if not steps or steps[0].id != step_id:
        raise StackError(
            "another rollout lies on top of this one",
            "Undo the newer one first, or roll back to a version.",
        )
    if len(steps) == 1:
        raise StackError(
            "it is the only step: nothing lies below it",
            "Roll back to another version with modelfleet rollback.",
        )
    return list(steps[1:])


def change(
    steps: Sequence[Step], step_id: str, with_step: Callable[[Step], Step]
) -> list[Step]:
    """Return the stack with one step changed.

    Raises:
        StackError: The step is not in the stack any more.
    """
    if all(step.id != step_id for step in steps):
        raise StackError("its step is not in force any more", "Start a new rollout.")
    return [with_step(step) if step.id == step_id else step for step in steps]


def widen(step: Step, to: str, listed: Sequence[str]) -> Step:
    """Return the step with a wider admission; it never admits fewer."""
    wider = Admit(
        salt=step.admit.salt,
        to=max(step.admit.to, to, key=_height),
        enrolments=list(dict.fromkeys([*step.admit.enrolments, *listed])),
        labels=step.admit.labels,
    )
    return msgspec.structs.replace(step, admit=wider)


def pause(step: Step) -> Step:
    """Return the step held: whoever has not begun waits."""
    return msgspec.structs.replace(step, begin=Paused())


def resume(step: Step) -> Step:
    """Return the step going on: whoever is admitted begins at once."""
    return msgspec.structs.replace(step, begin=UNSET)


def finish(step: Step) -> Step:
    """Return the step for everyone, at once."""
    every = Admit(salt=step.admit.salt, to=ALL, enrolments=[], labels={})
    return msgspec.structs.replace(step, admit=every, begin=UNSET)


def _height(to: str) -> int:
    return 2**64 if to == ALL else int(to, 16)
