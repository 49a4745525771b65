"""What the documents want, held against what an engine works on. Pure."""

from collections.abc import Collection, Iterable

from modelfleet_agent.update.engine import Engine
from modelfleet_agent.update.goal import Goal
from modelfleet_agent.update.phases import Phase
from modelfleet_manifests.assignment import Assignment, ByPin
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.wanted import Action, Documents, Wanted

_ENDS_ANYWAY = frozenset({Phase.RESTORING, Phase.REMOVING})


def goes_on(engine: Engine, releases: Collection[str]) -> bool:
    """Say whether what the journal holds will be worked on.

    In rest it is a goal that failed or was cancelled: it is tried again only while a
    document names it.
    """
    goal = engine.entry.goal
    return engine.goal is not None or (
        goal is not None and (goal.repair or goal.record.release in releases)
    )


def fits(engine: Engine, wanted: Wanted, goal: Goal | None) -> bool:
    """Say whether what the engine works on is still wanted."""
    if engine.entry.phase in _ENDS_ANYWAY or engine.goal is None:
        return True
    if engine.goal.repair and wanted.action is Action.KEEP:
        return True
    if goal is None or wanted.action not in {Action.KEEP, Action.INSTALL}:
        return False
    return engine.goal.is_same(goal)


def named(documents: Documents) -> Iterable[ReleaseRef]:
    """Yield the releases that the held documents name, pins first, then newest steps."""
    if isinstance(documents.assignment, Assignment):
        for governor in documents.assignment.slots.values():
            if isinstance(governor, ByPin):
                yield governor.release
    for deployment in documents.deployments.values():
        if isinstance(deployment, Deployment):
            for slot in deployment.slots.values():
                yield from (step.release for step in slot.steps)
