"""The resolver on documents and steps: a test for each rule."""

from dataclasses import replace
from typing import Any

import pytest

from modelfleet_manifests.assignment import ByGroup, ByHold, ByPin, ByRemove, Since
from modelfleet_manifests.deployment import Left, Paused, Spread
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.header import Minimum
from modelfleet_manifests.wanted import Action, Documents, Reason
from tests.support.documents import (
    ENROLMENT,
    GROUP,
    assignment_of,
    deployment_of,
    header_of,
    hex_of,
    ref_of,
    release_of,
    step_of,
)
from tests.support.resolving import NOBODY, V1, V2, VIEW, runs, wanted


def test_the_first_step_that_admits_the_device_wins() -> None:
    answer = wanted(step_of(V2, 2, admit=NOBODY), step_of(V1, 1))
    assert (answer.action, answer.release) == (Action.INSTALL, ref_of(V1))
    assert [one.reason for one in answer.passed] == [Reason.NOT_ADMITTED]


def test_what_runs_already_is_kept() -> None:
    answer = wanted(step_of(V1, 1), local=runs(V1))
    assert (answer.action, answer.reason) == (Action.KEEP, Reason.AS_WANTED)


def test_a_device_without_assignment_keeps() -> None:
    answer = wanted(local=runs(V1), documents=Documents())
    assert (answer.action, answer.reason) == (Action.KEEP, Reason.NO_ASSIGNMENT)


def test_a_slot_that_the_assignment_does_not_name_is_unmanaged() -> None:
    held = Documents(assignment_of({}), {})
    assert wanted(local=runs(V1), documents=held).reason is Reason.UNMANAGED


def test_hold_keeps_whatever_the_group_says() -> None:
    held = Documents(
        assignment_of({"detector": ByHold()}), {GROUP: deployment_of(step_of(V2, 1))}
    )
    assert wanted(local=runs(V1), documents=held).reason is Reason.HELD


def test_only_remove_uninstalls() -> None:
    held = Documents(assignment_of({"detector": ByRemove()}), {})
    assert wanted(local=runs(V1), documents=held).action is Action.REMOVE
    assert wanted(documents=held).action is Action.KEEP


def test_a_pin_decides_without_a_group() -> None:
    held = Documents(assignment_of({"detector": ByPin(release=ref_of(V2))}), {})
    assert wanted(documents=held).release == ref_of(V2)


def test_a_missing_deployment_keeps() -> None:
    held = Documents(assignment_of(), {})
    assert wanted(local=runs(V1), documents=held).reason is Reason.WAITS_FOR_GROUP


def test_a_deployment_older_than_since_keeps() -> None:
    governor = ByGroup(group=GROUP, since=Since(epoch=1, counter=5))
    held = Documents(
        assignment_of({"detector": governor}),
        {GROUP: deployment_of(step_of(V2, 1), counter=4)},
    )
    assert wanted(local=runs(V1), documents=held).reason is Reason.WAITS_FOR_GROUP


@pytest.mark.parametrize("which", ["assignment", "deployment"])
def test_an_expired_document_keeps_what_runs(which: str) -> None:
    short: dict[str, Any] = {"expires": 9}
    assignment = assignment_of(**short if which == "assignment" else {})
    deployment = deployment_of(step_of(V2, 1), **short if which == "deployment" else {})
    answer = wanted(local=runs(V1), documents=Documents(assignment, {GROUP: deployment}))
    assert (answer.action, answer.reason) == (Action.KEEP, Reason.EXPIRED)


def test_a_device_that_left_keeps_until_its_newer_assignment_arrives() -> None:
    left = Left(enrolment=ENROLMENT, order=Since(epoch=1, counter=7))
    deployment = deployment_of(step_of(V2, 1), left=[left])
    old = Documents(assignment_of(counter=6), {GROUP: deployment})
    new = Documents(assignment_of(counter=7), {GROUP: deployment})
    assert wanted(local=runs(V1), documents=old).reason is Reason.WAITS_FOR_GROUP
    assert wanted(local=runs(V1), documents=new).action is Action.INSTALL


def test_a_document_that_needs_newer_metadata_waits() -> None:
    deployment = deployment_of(step_of(V2, 1), min=Minimum(timestamp=3))
    held = Documents(assignment_of(), {GROUP: deployment})
    assert wanted(local=runs(V1), documents=held).reason is Reason.WAITS_FOR_METADATA
    seen = replace(VIEW, seen=Minimum(timestamp=3))
    assert wanted(local=runs(V1), documents=held, view=seen).action is Action.INSTALL


def test_a_document_of_a_newer_epoch_waits_for_metadata() -> None:
    held = Documents(assignment_of(), {GROUP: deployment_of(step_of(V2, 1), epoch=2)})
    assert wanted(local=runs(V1), documents=held).reason is Reason.WAITS_FOR_METADATA


def test_a_document_that_is_not_understood_keeps_and_says_so() -> None:
    strange = NotUnderstood(
        header=header_of("deployment", 1, group=GROUP), feature="shadow", digest=hex_of(1)
    )
    answer = wanted(local=runs(V1), documents=Documents(assignment_of(), {GROUP: strange}))
    assert (answer.reason, answer.detail) == (Reason.AGENT_TOO_OLD, "shadow")


def test_a_step_that_is_not_listed_yet_is_not_passed_over() -> None:
    unknown = release_of("9.0.0", rollback_to=["1.0.0"])
    answer = wanted(step_of(unknown, 2), step_of(V2, 1), local=runs(V1))
    assert (answer.action, answer.reason) == (Action.KEEP, Reason.WAITS_FOR_METADATA)


def test_a_paused_step_is_passed_over_until_it_was_begun() -> None:
    paused = step_of(V2, 2, begin=Paused())
    fresh = wanted(paused, step_of(V1, 1), local=runs(V1))
    assert fresh.release == ref_of(V1)
    assert fresh.passed[0].reason is Reason.PAUSED
    begun = runs(V2, begun=frozenset({paused.id}))
    assert wanted(paused, step_of(V1, 1), local=begun).release == ref_of(V2)


def test_a_step_that_is_not_due_waits_until_its_time() -> None:
    spread = step_of(V2, 2, begin=Spread(from_="0" * 16, start=1000, end=1000))
    early = wanted(spread, step_of(V1, 1), local=runs(V1), now=999)
    assert (early.passed[0].reason, early.passed[0].detail) == (Reason.WAITS_UNTIL, "1000")
    assert wanted(spread, step_of(V1, 1), local=runs(V1), now=1000).release == ref_of(V2)


def test_a_late_clock_is_corrected_by_the_documents_issue_time() -> None:
    spread = step_of(V2, 2, begin=Spread(from_="0" * 16, start=1000, end=1000))
    held = Documents(assignment_of(), {GROUP: deployment_of(spread, counter=1000)})
    assert wanted(local=runs(V1), documents=held, now=0).action is Action.INSTALL
