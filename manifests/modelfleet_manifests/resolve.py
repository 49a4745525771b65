"""`resolve`: facts and documents in, wanted slots with a reason out.

Pure, total, and the same on both sides: the device acts on it, the server plans and
explains with it. The rules are those of docs/protocol.md, "Resolution"; the first that
applies decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelfleet_manifests.admission import Due, admits, starts
from modelfleet_manifests.assignment import Assignment, ByGroup, ByHold, ByPin, ByRemove
from modelfleet_manifests.deployment import Deployment, Step
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.header import Header
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import ReleaseRef, Variant
from modelfleet_manifests.trust import Refusal, TrustView, judge
from modelfleet_manifests.wanted import Action, Documents, Local, Passed, Reason, Wanted

_STALE = "metadata is expired or held back, or nobody told what time it is"


def device_time(clock: int, documents: Documents) -> int:
    """Return the device's time: its clock, or later where a held document was issued later.

    Args:
        clock: The device's clock, Unix ms.
        documents: That it holds.
    """
    held = [documents.assignment, *documents.deployments.values()]
    return max([clock, *(one.header.issued for one in held if one is not None)])


def resolve(
    facts: Facts,
    documents: Documents,
    view: TrustView,
    locals_: Mapping[str, Local],
    now: int,
) -> dict[str, Wanted]:
    """Return what each slot is to run, and why.

    Args:
        facts: Of the device.
        documents: That it holds.
        view: Its verified metadata.
        locals_: What it knows of each slot that has or had something.
        now: Its time, Unix ms (see `device_time`).

    Returns:
        An answer for every slot that runs something or that the assignment names.
    """
    now = device_time(now, documents)
    named = (
        documents.assignment.slots if isinstance(documents.assignment, Assignment) else {}
    )
    return {
        slot: _Slot(slot, facts, documents, view, locals_.get(slot, Local()), now).resolve()
        for slot in sorted({*named, *locals_})
    }


@dataclass(frozen=True, slots=True)
class _Slot:
    """The rules for one slot; each method is one of them."""

    name: str
    facts: Facts
    documents: Documents
    view: TrustView
    local: Local
    now: int

    def resolve(self) -> Wanted:
        running = self.local.subject
        if running is not None and self.view.recalls.stops(running):
            return self._leave_stopped()
        return self._follow_documents()

    def _leave_stopped(self) -> Wanted:
        """The running release was stopped: the best that is here and allowed, at once."""
        without = replace(self, local=replace(self.local, release=None, digest=None))
        wanted = without._follow_documents()  # noqa: SLF001 - a copy of itself
        if wanted.release and wanted.variant and wanted.release.id in self.local.present:
            return replace(wanted, reason=Reason.RECALLED)
        for release_id in reversed(self.local.ran):
            verdict = judge(release_id, self.name, self.view, self.facts, self.local.proven)
            if release_id in self.local.present and verdict.variant is not None:
                release = self.view.releases[release_id]
                ref = ReleaseRef(
                    model=release.model, version=release.version, id=release_id
                )
                return Wanted(
                    Action.INSTALL,
                    Reason.RECALLED,
                    "the running release was stopped",
                    ref,
                    verdict.variant,
                )
        return Wanted(Action.STOP, Reason.RECALLED, "stopped, and nothing else is allowed")

    def _follow_documents(self) -> Wanted:
        assignment = self.documents.assignment
        if assignment is None:
            return self._keep(Reason.NO_ASSIGNMENT, "no assignment has arrived yet")
        if isinstance(assignment, NotUnderstood):
            return self._keep(Reason.AGENT_TOO_OLD, assignment.feature)
        return self._unfit(assignment.header, "assignment") or self._govern(assignment)

    def _govern(self, assignment: Assignment) -> Wanted:
        match assignment.slots.get(self.name):
            case ByHold():
                return self._keep(Reason.HELD, "held by an operator")
            case ByRemove():
                return self._remove()
            case ByPin(release=release):
                return self._follow_pin(release)
            case ByGroup() as governor:
                return self._follow_group(governor, assignment)
            case _:
                return self._keep(Reason.UNMANAGED, "the assignment does not name the slot")

    def _remove(self) -> Wanted:
        if self.local.release is None:
            return self._keep(Reason.REMOVED, "nothing is installed")
        return Wanted(Action.REMOVE, Reason.REMOVED, "removed by an operator")

    def _follow_pin(self, release: ReleaseRef) -> Wanted:
        if release.id not in self.view.releases:
            return self._keep(Reason.WAITS_FOR_METADATA, f"release {release.version}")
        verdict = judge(release.id, self.name, self.view, self.facts, self.local.proven)
        if verdict.variant is None:
            return self._keep(Reason.NOT_ALLOWED, f"pinned, but {verdict.refusal}")
        return self._want(release, verdict.variant, None, ())

    def _follow_group(self, governor: ByGroup, assignment: Assignment) -> Wanted:
        deployment = self.documents.deployments.get(governor.group)
        if deployment is None:
            return self._keep(Reason.WAITS_FOR_GROUP, "its deployment has not arrived")
        if deployment.header.order < governor.since.order:
            return self._keep(Reason.WAITS_FOR_GROUP, "its deployment is too old")
        if isinstance(deployment, NotUnderstood):
            return self._keep(Reason.AGENT_TOO_OLD, deployment.feature)
        return self._unfit(deployment.header, "deployment") or self._descend(
            deployment, assignment
        )

    def _descend(self, deployment: Deployment, assignment: Assignment) -> Wanted:
        order = assignment.header.order
        enrolment = str(assignment.header.enrolment)
        if any(
            one.enrolment == enrolment and order < one.order.order
            for one in deployment.left
        ):
            return self._keep(Reason.WAITS_FOR_GROUP, "it left; a newer assignment is due")
        stack = deployment.slots.get(self.name)
        if stack is None:
            return self._keep(Reason.WAITS_FOR_GROUP, "the group has nothing for the slot")
        return self._climb(stack.steps, enrolment, assignment.labels)

    def _unfit(self, header: Header, what: str) -> Wanted | None:
        if header.expires <= self.now:
            return self._keep(Reason.EXPIRED, f"the {what} expired; waiting for a new one")
        if header.epoch > self.view.epoch or not header.min.is_met_by(self.view.seen):
            return self._keep(Reason.WAITS_FOR_METADATA, f"the {what} needs newer metadata")
        return None

    def _climb(
        self, steps: list[Step], enrolment: str, labels: Mapping[str, str]
    ) -> Wanted:
        """The first step, newest first, that admits the device and that it may run."""
        passed: list[Passed] = []
        for step in steps:
            why = self._wait(step, enrolment, labels)
            if why is None:
                outcome = self._try(step)
                if isinstance(outcome, Wanted):
                    return replace(outcome, passed=tuple(passed))
                why = outcome
            passed.append(why)
        first = next((one for one in passed if one.reason != Reason.NOT_ADMITTED), None)
        reason = first.reason if first else Reason.NOT_ADMITTED
        detail = first.detail if first else "no step admits this device yet"
        return replace(self._keep(reason, detail), passed=tuple(passed))

    def _wait(self, step: Step, enrolment: str, labels: Mapping[str, str]) -> Passed | None:
        """Return why the device does not run the step yet, or None."""
        if not admits(step.admit, enrolment, labels):
            return self._pass(step, Reason.NOT_ADMITTED, "not in the waves so far")
        start = starts(step.begin, step.admit, enrolment, self.now)
        if start.due is Due.NOW or step.id in self.local.begun:
            return None
        if start.due is Due.PAUSED:
            return self._pass(step, Reason.PAUSED, "the rollout is paused")
        return self._pass(step, Reason.WAITS_UNTIL, str(start.at))

    def _try(self, step: Step) -> Wanted | Passed:
        """Return the step as the answer, or why it is passed over."""
        ref, local = step.release, self.local
        if ref.id not in self.view.releases:
            keep = self._keep(Reason.WAITS_FOR_METADATA, f"release {ref.version}")
            return replace(keep, step=step.id)
        verdict = judge(ref.id, self.name, self.view, self.facts, local.proven)
        runs = local.release == ref.id
        if verdict.variant is None:
            if verdict.refusal is Refusal.REVOKED and runs:
                return Wanted(
                    Action.KEEP, Reason.RECALLED_WAITS, "revoked, but not stopped", ref,
                    step=step.id,
                )  # fmt: skip
            return self._pass(step, Reason.NOT_ALLOWED, str(verdict.refusal))
        runs = runs and local.digest == verdict.variant.digest
        if not runs and (step.id, verdict.variant.digest) in local.quarantine:
            return self._pass(
                step, Reason.QUARANTINED, "failed here, waits for its backoff"
            )
        return self._want(ref, verdict.variant, step.id, ())

    def _want(
        self,
        ref: ReleaseRef,
        variant: Variant,
        step: str | None,
        passed: tuple[Passed, ...],
    ) -> Wanted:
        if self.local.release == ref.id and self.local.digest == variant.digest:
            return Wanted(Action.KEEP, Reason.AS_WANTED, "", ref, variant, step, passed)
        if not self.view.fresh and ref.id not in self.local.ran:
            keep = self._keep(Reason.WAITS_FOR_METADATA, _STALE)
            return replace(keep, release=ref, step=step)
        reason, detail = Reason.NEW_RELEASE, ""
        if self.local.release == ref.id:  # what the device is has changed
            reason = Reason.NEW_VARIANT
            detail = f"of what it runs already, {variant.name} suits this device best"
        return Wanted(Action.INSTALL, reason, detail, ref, variant, step, passed)

    def _keep(self, reason: Reason, detail: str) -> Wanted:
        return Wanted(Action.KEEP, reason, detail)

    def _pass(self, step: Step, reason: Reason, detail: str) -> Passed:
        return Passed(step.id, step.release.id, reason, detail)
