"""The resolver's rules, one test each, then the properties that hold for all of them."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet_manifests.assignment import ByGroup, ByHold, ByPin, ByRemove, Since
from modelfleet_manifests.deployment import Admit, Left, Paused, Spread, Step
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.header import Minimum
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import Release
from modelfleet_manifests.resolve import resolve
from modelfleet_manifests.trust import Recalls, TrustView
from modelfleet_manifests.wanted import Action, Documents, Local, Reason, Wanted
from tests.support.documents import (
    ENROLMENT,
    GROUP,
    SALT,
    assignment_of,
    deployment_of,
    header_of,
    hex_of,
    ref_of,
    release_of,
    step_of,
    view_of,
)

FACTS = Facts(arch="x86_64", opset=21)
V1 = release_of("1.0.0")
V2 = release_of("1.1.0", rollback_to=["1.0.0"])
V3 = release_of("1.2.0", rollback_to=["1.0.0", "1.1.0"])
VIEW = view_of(V1, V2, V3)
NOBODY = Admit(salt=SALT, to="0" * 16, enrolments=[], labels={})


def runs(release: Release, **changes: Any) -> Local:
    ref = ref_of(release)
    fields: dict[str, Any] = {
        "release": ref.id,
        "digest": release.variants[0].digest,
        "ran": (ref.id,),
        "present": frozenset({ref.id}),
        "proven": frozenset({ref.id}),
    }
    return Local(**{**fields, **changes})


def wanted(
    *steps: Step,
    local: Local | None = None,
    view: TrustView = VIEW,
    facts: Facts = FACTS,
    now: int = 10,
    documents: Documents | None = None,
) -> Wanted:
    held = documents or Documents(assignment_of(), {GROUP: deployment_of(*steps)})
    return resolve(facts, held, view, {"detector": local or Local()}, now)["detector"]


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


def test_a_revoked_release_is_never_wanted() -> None:
    recalls = Recalls(blocked=frozenset({ref_of(V2).id}))
    answer = wanted(
        step_of(V2, 2), step_of(V1, 1), local=runs(V1), view=replace(VIEW, recalls=recalls)
    )
    assert answer.release == ref_of(V1)
    assert answer.passed[0].reason is Reason.NOT_ALLOWED


def test_a_revoked_file_blocks_the_variant_that_has_it() -> None:
    recalls = Recalls(blocked=frozenset({V2.variants[0].digest}))
    answer = wanted(step_of(V2, 2), view=replace(VIEW, recalls=recalls))
    assert answer.action is Action.KEEP


def test_a_running_release_that_is_only_revoked_stays() -> None:
    recalls = Recalls(blocked=frozenset({ref_of(V1).id}))
    answer = wanted(step_of(V1, 1), local=runs(V1), view=replace(VIEW, recalls=recalls))
    assert (answer.action, answer.reason) == (Action.KEEP, Reason.RECALLED_WAITS)


def test_a_stopped_release_gives_way_at_once_to_the_latest_allowed_on_disk() -> None:
    one, two = ref_of(V1).id, ref_of(V2).id
    local = runs(V2, ran=(one, two), present=frozenset({one, two}))
    recalls = Recalls(stopped=frozenset({two}))
    answer = wanted(local=local, documents=Documents(), view=replace(VIEW, recalls=recalls))
    assert (answer.action, answer.release) == (Action.INSTALL, ref_of(V1))
    assert answer.reason is Reason.RECALLED


def test_a_stopped_release_with_nothing_else_leaves_nothing_running() -> None:
    recalls = Recalls(stopped=frozenset({ref_of(V1).id}))
    answer = wanted(local=runs(V1), view=replace(VIEW, recalls=recalls))
    assert answer.action is Action.STOP


def test_a_release_is_never_chosen_only_because_it_is_on_disk() -> None:
    one, two = ref_of(V1).id, ref_of(V2).id
    local = runs(V2, ran=(two,), present=frozenset({one, two}))
    recalls = Recalls(stopped=frozenset({two}))
    answer = wanted(local=local, documents=Documents(), view=replace(VIEW, recalls=recalls))
    assert answer.action is Action.STOP


def test_a_slot_holds_only_what_the_officers_permitted() -> None:
    answer = wanted(step_of(V1, 1), view=replace(VIEW, slots={}))
    assert answer.passed[0].detail == "slot-not-permitted"


def test_a_version_below_the_floor_is_refused() -> None:
    answer = wanted(step_of(V1, 1), view=replace(VIEW, floors={"demo/digits": "1.0.1"}))
    assert answer.passed[0].detail == "below-floor"


def test_a_downgrade_needs_the_running_releases_consent() -> None:
    lonely = release_of("2.0.0")
    view = view_of(V1, V2, lonely)
    assert wanted(step_of(V1, 1), local=runs(V2), view=view).release == ref_of(V1)
    refused = wanted(step_of(V1, 1), local=runs(lonely), view=view)
    assert refused.passed[0].detail == "downgrade"


def test_without_a_variant_for_its_facts_a_step_is_passed_over() -> None:
    jetson_only = release_of("3.0.0", profiles=("jetson-orin-trt",))
    answer = wanted(step_of(jetson_only, 1), view=view_of(jetson_only))
    assert answer.passed[0].detail == "no-variant"


def test_the_most_specific_variant_is_chosen() -> None:
    many = release_of("3.0.0", profiles=("generic", "x86-avx2", "x86-vnni"))
    facts = Facts(arch="x86_64", cpu=["avx2"], opset=21)
    answer = wanted(step_of(many, 1), view=view_of(many), facts=facts)
    assert answer.variant is not None
    assert answer.variant.name == "x86-avx2"


def test_quarantine_belongs_to_a_step_and_a_new_step_tries_at_once() -> None:
    digest = V2.variants[0].digest
    local = runs(V1, quarantine=frozenset({(hex_of(2, 32), digest)}))
    again = wanted(step_of(V2, 2), step_of(V1, 1), local=local)
    assert again.passed[0].reason is Reason.QUARANTINED
    assert wanted(step_of(V2, 3), step_of(V1, 1), local=local).release == ref_of(V2)


def test_expired_metadata_installs_nothing_new_but_lets_a_device_return() -> None:
    stale = replace(VIEW, fresh=False)
    assert wanted(step_of(V2, 1), local=runs(V1), view=stale).action is Action.KEEP
    back = runs(V2, ran=(ref_of(V1).id, ref_of(V2).id))
    assert wanted(step_of(V1, 1), local=back, view=stale).action is Action.INSTALL


releases = st.sampled_from([V1, V2, V3])
admissions = st.sampled_from(["0" * 16, "8" + "0" * 15, "all"])
begins = st.sampled_from(
    [None, Paused(), Spread(from_="0" * 16, start=5, end=50_000)],
)


@st.composite
def stacks(draw: st.DrawFn) -> list[Step]:
    count = draw(st.integers(1, 4))
    steps = []
    for number in range(count):
        begin = draw(begins)
        extra = {} if begin is None else {"begin": begin}
        steps.append(step_of(draw(releases), number + 1, to=draw(admissions), **extra))
    return steps


@st.composite
def locals_(draw: st.DrawFn) -> Local:
    if draw(st.booleans()):
        return Local()
    begun = frozenset(hex_of(n, 32) for n in draw(st.sets(st.integers(1, 4))))
    broken = draw(st.sets(st.tuples(st.integers(1, 4), releases.map(lambda r: r.version))))
    by_version = {one.version: one for one in (V1, V2, V3)}
    quarantine = frozenset(
        (hex_of(n, 32), by_version[version].variants[0].digest) for n, version in broken
    )
    return runs(draw(releases), begun=begun, quarantine=quarantine)


@st.composite
def views(draw: st.DrawFn) -> TrustView:
    ids = [ref_of(one).id for one in (V1, V2, V3)]
    pick = st.frozensets(st.sampled_from(ids))
    return replace(
        VIEW,
        recalls=Recalls(draw(pick), draw(pick)),
        fresh=draw(st.booleans()),
        floors=draw(st.sampled_from([{}, {"demo/digits": "1.1.0"}])),
    )


@given(stacks(), locals_(), views(), st.integers(0, 60_000))
def test_the_resolver_is_total_and_deterministic(
    steps: list[Step], local: Local, view: TrustView, now: int
) -> None:
    one = wanted(*steps, local=local, view=view, now=now)
    assert one == wanted(*steps, local=local, view=view, now=now)
    assert isinstance(one.reason, Reason)
    assert (one.variant is not None) or one.action is not Action.INSTALL


@given(stacks(), locals_(), views(), st.integers(0, 60_000))
def test_nothing_that_is_not_allowed_is_newly_activated(
    steps: list[Step], local: Local, view: TrustView, now: int
) -> None:
    answer = wanted(*steps, local=local, view=view, now=now)
    if answer.action is Action.INSTALL and answer.release is not None:
        assert not view.recalls.blocks(answer.release.id, answer.variant)
        assert answer.release.id in view.releases


@given(stacks(), locals_(), st.integers(0, 60_000))
@settings(max_examples=50)
def test_the_answer_does_not_depend_on_the_order_in_which_documents_were_heard(
    steps: list[Step], local: Local, now: int
) -> None:
    other = "b" * 32
    groups = {
        GROUP: deployment_of(*steps),
        other: deployment_of(step_of(V3, 9), counter=7),
        "c" * 32: deployment_of(step_of(V1, 8), counter=9),
    }
    answers = set()
    for order in permutations(groups):
        held = Documents(assignment_of(), {group: groups[group] for group in order})
        answer = wanted(local=local, documents=held, now=now)
        answers.add((answer.action, answer.reason, answer.step))
    assert len(answers) == 1


@given(
    st.lists(releases, min_size=1, max_size=3, unique_by=lambda one: one.version),
    st.lists(admissions, min_size=3, max_size=3),
    st.booleans(),
)
def test_undo_of_a_step_gives_what_would_have_been_without_it(
    chosen: list[Release], heights: list[str], begun: bool
) -> None:
    below = sorted(chosen, key=lambda one: one.version, reverse=True)
    steps = [
        step_of(release, number + 1, to=height)
        for number, (release, height) in enumerate(zip(below, heights, strict=False))
    ]
    top = step_of(release_of("1.3.0", rollback_to=["1.0.0", "1.1.0", "1.2.0"]), 9)
    view = view_of(V1, V2, V3, release_of("1.3.0", rollback_to=["1.0.0", "1.1.0", "1.2.0"]))
    before = runs(below[-1])
    never = wanted(*steps, local=before, view=view)
    tried = wanted(top, *steps, local=before, view=view)
    assert tried.release == top.release
    # The device ran the top step to the end of its trial, then the step is taken away.
    there = Local(
        release=top.release.id,
        digest=view.releases[top.release.id].variants[0].digest,
        ran=(*before.ran, top.release.id),
        present=before.present | {top.release.id},
        proven=before.proven | {top.release.id},
        begun=frozenset({top.id}) if begun else frozenset(),
    )
    after = wanted(*steps, local=there, view=view)
    assert after.release == never.release
    assert after.step == never.step
