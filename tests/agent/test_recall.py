"""Recall on a real agent: what was stopped ends at once, and is never started again."""

import json
import shutil

import pytest
from tests.agent import models
from tests.agent.rig import SLOT, Rig
from tests.support.waiting import eventually

from modelfleet_agent.supervisor.status import read_status
from modelfleet_agent.trust.__main__ import perform
from modelfleet_agent.trust.messages import Answer, Recall
from modelfleet_manifests import topics
from modelfleet_manifests.release import Release, release_ref


def run_two(rig: Rig) -> tuple[Release, Release]:
    """Have 1.1.0 serve, after 1.0.0 did."""
    old = rig.release("1.0.0", models.linear(1.0))
    rig.fleet.publish()
    rig.assign()
    rig.deploy(old)
    rig.start()
    rig.serves(old)
    new = rig.release("1.1.0", models.linear(2.0))
    rig.fleet.publish()
    rig.deploy(new, old)
    rig.serves(new)
    return old, new


def test_a_stopped_model_gives_way_to_the_best_allowed_one_without_a_download(
    rig: Rig,
) -> None:
    old, new = run_two(rig)
    since = len(rig.reports)
    rig.server.requests.clear()
    rig.fleet.stop(release_ref(new).id)
    rig.peer.publish(topics.RECALLS, rig.fleet.recalls(), retain=True)
    try:
        row = rig.serves(old, since=since)
        assert row.reason in {"recalled", "as-wanted"}
        assert not [one for one in rig.server.requests if "/blobs/" in one.path]
        assert rig.answer()[0] == 200
    finally:
        rig.peer.publish(topics.RECALLS, b"", retain=True)


def test_a_stopped_range_ends_what_runs_of_it_and_survives_a_restart(rig: Rig) -> None:
    old, new = run_two(rig)
    since = len(rig.reports)
    rig.fleet.stop("demo:linear@1.0.1,2.0.0", kind="range")
    rig.peer.publish(topics.RECALLS, rig.fleet.recalls(), retain=True)
    try:
        rig.serves(old, since=since)
    finally:
        rig.peer.publish(topics.RECALLS, b"", retain=True)
    rig.kill()
    rig.start()
    rig.deploy(new)
    rig.reported(
        lambda row: (row.reason, row.detail) == ("not-allowed", "stopped"), "it refuses it"
    )
    rig.serves(old)


@pytest.mark.slow
def test_a_stopped_model_is_not_started_after_a_power_cut_that_took_the_metadata(
    rig: Rig,
) -> None:
    old, new = run_two(rig)
    rig.kill()
    me = rig.me
    rig.fleet.stop(release_ref(new).id)
    recall = Recall(directory=str(rig.dir), fleet=me.fleet, payload=rig.fleet.recalls())
    assert perform(recall) == Answer()
    (rig.dir / "trust" / "state.json").write_bytes(b"{")  # torn
    path = rig.dir / "enrolment.json"
    nowhere = {"server": "http://127.0.0.1:9", "mqtt_port": 9}
    path.write_text(json.dumps(json.loads(path.read_text()) | nowhere))
    rig.start()
    pid = rig.process.pid if rig.process else 0

    def serves_old() -> bool:
        found = read_status(rig.dir)
        if found is None or found.pid != pid or SLOT not in found.slots:
            return False
        assert found.slots[SLOT].digest != new.variants[0].digest
        return found.slots[SLOT].digest == old.variants[0].digest

    eventually(serves_old, "what ran before serves", 30)


@pytest.mark.slow
def test_an_agent_that_lost_what_it_held_obeys_no_old_document(rig: Rig) -> None:
    """The broker gives it the assignment of then; it wants one that was made since."""
    old, new = run_two(rig)
    rig.kill()
    for name in ("orders", "documents"):
        path = rig.dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    rig.deploy(old)  # as it was once
    rig.start()
    rig.reported(lambda row: row.reason == "no-assignment", "it holds none")
    challenge = rig.reports[-1].challenge
    assert isinstance(challenge, str)
    assert any("E_ECHO" in error for one in rig.reports for error in one.errors)
    rig.deploy(new, old)
    me = rig.me
    answer = rig.fleet.assignment(
        me.device, me.enrolment, {SLOT: rig.group}, echo=challenge
    )
    topic = topics.device_topic(me.device, "assignment")
    rig.peer.publish(topic, answer, retain=True)
    row = rig.reported(lambda row: row.reason == "as-wanted", "it obeys again")
    assert row.running
    assert row.running.digest == new.variants[0].digest
    assert not rig.reports[-1].challenge
