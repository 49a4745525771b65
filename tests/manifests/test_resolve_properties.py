"""What holds for whatever the resolver is asked."""

from dataclasses import replace
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet_manifests.deployment import Paused, Spread, Step
from modelfleet_manifests.recalls import Recalls, subject_of
from modelfleet_manifests.release import Release
from modelfleet_manifests.trust import TrustView
from modelfleet_manifests.wanted import Action, Documents, Local, Reason
from tests.support.documents import (
    GROUP,
    assignment_of,
    deployment_of,
    hex_of,
    ref_of,
    release_of,
    step_of,
    view_of,
)
from tests.support.resolving import V1, V2, V3, VIEW, runs, wanted

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
    ranges = ["demo:digits@1.0.0,1.2.0", "demo:digits@,1.1.0", "demo:letters@0.0.0,"]
    pick = st.frozensets(st.sampled_from([*ids, *ranges]))
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
        release = view.releases[answer.release.id]
        subject = subject_of(answer.release.id, release, answer.variant)
        assert not view.recalls.blocks(subject)


@given(stacks(), locals_(), views(), st.integers(0, 60_000))
def test_nothing_that_is_stopped_goes_on(
    steps: list[Step], local: Local, view: TrustView, now: int
) -> None:
    answer = wanted(*steps, local=local, view=view, now=now)
    if local.subject and view.recalls.stops(local.subject):
        assert answer.action in {Action.INSTALL, Action.STOP}


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
