"""A hostile broker and server over honest histories: they can delay, and nothing else."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.adversary import Honest, Victim
from tests.support.solo import SoloFleet
from tests.support.solo_device import enrol_device
from tests.support.solo_http import serve

from modelfleet_manifests.recalls import Recalls, Subject, names_of, subject_of
from modelfleet_manifests.release import release_ref
from modelfleet_manifests.semver import is_lower

any_index = st.integers(0, 200)


class Adversary(RuleBasedStateMachine):
    """The four invariants of a device that hears only what an adversary lets through."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        fleet = SoloFleet()
        server = self.stack.enter_context(serve(fleet))
        device = enrol_device(server, Path(folder) / "agent", "dev-1")
        self.server = server
        self.honest = Honest(fleet, device.me.device, device.me.enrolment)
        self.victim = Victim(device)
        self.honest.release()
        self.honest.assign()
        self.orders: dict[str, tuple[int, int]] = {}
        self.stops: set[str] = set()
        self.floor = "0.0.0"

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    # honest people

    @rule()
    def release(self) -> None:
        self.honest.release()

    @rule()
    def assign(self) -> None:
        self.honest.assign()

    @rule(which=any_index)
    def deploy(self, which: int) -> None:
        self.honest.deploy(which)

    @rule(which=any_index)
    def stop(self, which: int) -> None:
        self.honest.stop(which)

    @rule(which=any_index)
    def stop_range(self, which: int) -> None:
        self.honest.stop_range(which)

    @rule(which=any_index)
    def raise_floor(self, which: int) -> None:
        self.honest.raise_floor(which)

    @rule()
    def rotate_online(self) -> None:
        self.honest.rotate_online()

    # the adversary

    @rule(which=any_index)
    def deliver(self, which: int) -> None:
        self.victim.hear(*self.honest.messages[which % len(self.honest.messages)])

    @rule(which=any_index, other=any_index)
    def deliver_under_another_topic(self, which: int, other: int) -> None:
        messages = self.honest.messages
        topic, _ = messages[which % len(messages)]
        self.victim.hear(topic, messages[other % len(messages)][1])

    @rule(which=any_index)
    def clear(self, which: int) -> None:
        self.victim.hear(self.honest.messages[which % len(self.honest.messages)][0], b"")

    @rule(which=any_index, at=any_index, bit=st.integers(0, 7))
    def deliver_altered(self, which: int, at: int, bit: int) -> None:
        topic, data = self.honest.messages[which % len(self.honest.messages)]
        altered = bytearray(data)
        altered[at % len(data)] ^= 1 << bit
        self.victim.hear(topic, bytes(altered))

    @rule(which=any_index)
    def serve_some_metadata(self, which: int) -> None:
        refs = [release_ref(one) for one in self.honest.releases]
        self.victim.refresh(self.honest.metadata[which % len(self.honest.metadata)], *refs)

    @rule(which=any_index, other=any_index)
    def serve_a_mixture(self, which: int, other: int) -> None:
        history = self.honest.metadata
        mixed = history[which % len(history)] | {
            name: data
            for name, data in history[other % len(history)].items()
            if "timestamp" not in name
        }
        refs = [release_ref(one) for one in self.honest.releases]
        self.victim.refresh(mixed, *refs)

    @rule()
    def reboot(self) -> None:
        self.victim.reboot()

    @rule()
    def lose_the_documents(self) -> None:
        self.victim.lose_documents()

    @rule(which=any_index)
    def serve_metadata_and_keep_the_time_back(self, which: int) -> None:
        self.server.tells_time = False
        self.serve_some_metadata(which)
        self.server.tells_time = True

    @rule()
    def lose_the_cache(self) -> None:
        cache = self.victim.at.directory / "tuf"
        for path in cache.glob("*.json"):
            path.unlink()

    @rule()
    def decide(self) -> None:
        before = len(self.victim.installed)
        state = self.victim.at.state
        wanted = self.victim.decide()
        for release_id in self.victim.installed[before:]:
            assert state.is_fresh(self.honest.fleet.now)
            assert self.victim.at.clock.confirmed
            assert wanted.release is not None
            version = wanted.release.version
            assert not is_lower(version, self.floor)
            one = Subject("demo/digits", version, frozenset({release_id}))
            assert not Recalls(stopped=frozenset(self.stops)).stops(one)

    # what holds

    @precondition(lambda self: hasattr(self, "victim"))
    @invariant()
    def every_held_document_was_signed_and_none_gets_older(self) -> None:
        assert set(self.victim.held.values()) <= self.honest.bodies
        for topic, held in self.victim.inbox.held().items():
            order = (held.epoch, held.counter)
            if topic in self.orders and "assignment" in topic:
                assert order >= self.orders[topic]
            self.orders[topic] = order

    @precondition(lambda self: hasattr(self, "victim"))
    @invariant()
    def what_was_stopped_and_heard_stays_stopped(self) -> None:
        stopped = set(self.victim.at.state.stopped)
        assert stopped >= self.stops
        self.stops = stopped
        published = self.honest.fleet.role("stops").targets
        assert stopped <= names_of("stops", published)[0]

    @precondition(lambda self: hasattr(self, "victim"))
    @invariant()
    def the_floor_never_falls(self) -> None:
        floor = self.victim.at.state.floors.get("demo/digits", "0.0.0")
        assert not is_lower(floor, self.floor)
        self.floor = floor

    @precondition(lambda self: hasattr(self, "victim"))
    @invariant()
    def only_what_was_released_is_listed_or_runs(self) -> None:
        released = {release_ref(one).id for one in self.honest.releases}
        assert set(self.victim.at.state.listed.values()) <= released
        assert {self.victim.local.release} - {None} <= released

    @rule()
    def after_honest_delivery_it_is_where_it_should_be(self) -> None:
        refs = [release_ref(one) for one in self.honest.releases]
        self.honest.publish()
        assert self.victim.refresh(self.honest.metadata[-1], *refs) == ""
        for message in self.honest.messages:  # each topic ends with its newest
            self.victim.hear(*message)
        for message in dict(self.honest.messages).items():
            self.victim.hear(*message)  # retained: a group is listened to once it governs
        assert self.victim.at.state.is_fresh(self.honest.fleet.now)
        self.decide()
        recalls = Recalls(stopped=frozenset(self.victim.at.state.stopped))
        runs = self.victim.local.subject
        assert runs is None or not recalls.stops(runs)
        chosen = self.honest.deployed
        if chosen and not is_lower(chosen.version, self.honest.floor):
            wanted = subject_of(release_ref(chosen).id, chosen)
            assert self.victim.local.release in wanted.names or recalls.stops(wanted)
        newest = {}
        for topic, data in self.honest.messages:
            if "recalls" not in topic:
                newest[topic.replace("/", "_")] = data
        held = self.victim.held
        assert len(held) == len(newest)


QUIET = list(HealthCheck)
TestAdversary = Adversary.TestCase
TestAdversary.settings = settings(
    max_examples=3, stateful_step_count=12, deadline=None, suppress_health_check=QUIET
)


# histories that once went wrong


@pytest.fixture
def played() -> Iterator[Adversary]:
    adversary = Adversary()
    adversary.begin()
    yield adversary
    adversary.teardown()


def test_an_earlier_root_served_between_two_new_ones_is_caught_up_with(
    played: Adversary,
) -> None:
    played.rotate_online()
    played.serve_some_metadata(0)
    played.rotate_online()
    played.after_honest_delivery_it_is_where_it_should_be()


def test_a_document_of_before_the_versions_began_again_is_signed_anew(
    played: Adversary,
) -> None:
    for _ in range(3):
        played.release()
    played.deploy(1)
    played.rotate_online()
    played.after_honest_delivery_it_is_where_it_should_be()


def test_lost_documents_come_again_although_the_assignment_comes_last(
    played: Adversary,
) -> None:
    played.deploy(0)
    played.assign()
    played.after_honest_delivery_it_is_where_it_should_be()
    played.lose_the_documents()
    played.after_honest_delivery_it_is_where_it_should_be()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_adversary_tries_longer() -> None:
    longer = settings(
        max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=QUIET
    )
    run_state_machine_as_test(Adversary, settings=longer)
