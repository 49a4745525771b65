"""The resolver inside what is Allowed: recalls, floors, slots, hardware, freshness."""

from dataclasses import replace

from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.recalls import Recalls
from modelfleet_manifests.wanted import Action, Documents, Reason
from tests.support.documents import (
    hex_of,
    ref_of,
    release_of,
    step_of,
    view_of,
)
from tests.support.resolving import V1, V2, V3, VIEW, runs, wanted


def test_a_revoked_range_is_never_wanted_and_what_runs_of_it_stays() -> None:
    recalls = Recalls(blocked=frozenset({"demo:digits@1.1.0,"}))
    view = replace(VIEW, recalls=recalls)
    answer = wanted(step_of(V3, 3), step_of(V2, 2), step_of(V1, 1), view=view)
    assert answer.release == ref_of(V1)
    stays = wanted(step_of(V2, 1), local=runs(V2), view=view)
    assert (stays.action, stays.reason) == (Action.KEEP, Reason.RECALLED_WAITS)


def test_a_stopped_range_ends_what_runs_of_it_for_what_is_below() -> None:
    recalls = Recalls(stopped=frozenset({"demo:digits@1.1.0,2.0.0"}))
    ids = [ref_of(one).id for one in (V1, V2, V3)]
    local = runs(V3, ran=tuple(ids), present=frozenset(ids))
    answer = wanted(local=local, documents=Documents(), view=replace(VIEW, recalls=recalls))
    assert (answer.reason, answer.release) == (Reason.RECALLED, ref_of(V1))


def test_a_stopped_range_also_ends_what_is_not_listed_any_more() -> None:
    recalls = Recalls(stopped=frozenset({"demo:digits@,1.1.0"}))
    view = replace(VIEW, recalls=recalls, releases={})
    assert wanted(local=runs(V1), view=view).action is Action.STOP


def test_one_stopped_file_of_several_ends_what_runs() -> None:
    recalls = Recalls(stopped=frozenset({"9" * 64}))
    local = runs(V1, files=frozenset({"8" * 64, "9" * 64}))
    answer = wanted(local=local, view=replace(VIEW, recalls=recalls))
    assert answer.reason is Reason.RECALLED


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
