"""Five weeks without a network, a full disk, and what is told when it comes back."""

import json
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.agent.report.test_outbox import batch, situation
from tests.support.mqtt import Peer
from tests.support.solo import random_id
from tests.support.waiting import eventually

from modelfleet_agent import fsio
from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.link import mqtt
from modelfleet_agent.report.outbox import Outbox, read_ack
from modelfleet_agent.settings import AgentSettings
from modelfleet_agent.settings.outbox import OutboxSettings
from modelfleet_agent.supervisor.voice import Essence, Voice
from modelfleet_manifests import topics
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import write
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.report import FIRST, Report, open_report, open_telemetry

HOUR = 3_600_000
WEEK = 7 * 24
SMALL = OutboxSettings(telemetry_kb=256, reports_kb=1024)


@dataclass
class Speaker:
    """A device that speaks, on a clock of its own; nothing else of it runs."""

    dir: Path
    me: Enrolment
    key: PrivateKey
    budget: OutboxSettings = SMALL
    now: int = 1_790_000_000_000

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        """Start, as after a power cut."""
        self.outbox = Outbox(self.dir, self.me, self.key, boot="3" * 32, budget=self.budget)
        self.events: queue.Queue[mqtt.Event] = queue.Queue()
        self.session = mqtt.Session(self.me, self.events, spread_s=0.01)
        settings = AgentSettings(dir=self.dir, outbox=self.budget)
        self.voice = Voice(settings, self.outbox, self.session, lambda: self.now)

    def tell(self, whole: object, core: object = "") -> bool:
        """Report where a report is due; say whether one was made."""
        essence = Essence(whole, core)
        if not self.voice.is_due(essence):
            return False
        return self.voice.report(situation(self.now), essence)

    def live(self, event: mqtt.Event) -> None:
        """Take one event, as the supervisor does."""
        match event:
            case mqtt.Connected():
                self.voice.repeat()
            case mqtt.Delivered(number):
                self.voice.delivered(number)
            case mqtt.Arrived(_, payload):
                ack = read_ack(payload)
                assert ack
                self.voice.acknowledge(ack)
            case mqtt.Disconnected():
                pass


@pytest.fixture
def speaker(tmp_path: Path, broker: tuple[str, int]) -> Iterator[Speaker]:
    me = Enrolment(
        device=f"dev-{random_id()[:8]}",
        enrolment="1" * 32,
        incarnation=1,
        fleet="2" * 64,
        server="http://127.0.0.1:1",
        mqtt_host=broker[0],
        mqtt_port=broker[1],
        token="secret",
    )
    made = Speaker(tmp_path, me, PrivateKey.generate())
    yield made
    made.session.stop()


class Server:
    """Takes reports and acknowledges them, ten at a time, as an ingest that batches."""

    def __init__(self, speaker: Speaker, broker: tuple[str, int]) -> None:
        self.speaker = speaker
        self.peer = Peer(broker)  # type: ignore[arg-type]
        self.topics = {
            kind: topics.device_topic(speaker.me.device, kind)
            for kind in ("report", "telemetry", "ack")
        }
        for kind in ("report", "telemetry"):
            self.peer.subscribe(self.topics[kind])

    def reports(self) -> list[Report]:
        device, key = self.speaker.me.device, self.speaker.key.public
        payloads = self.peer.payloads(self.topics["report"])
        found = [open_report(one, device, [key]) for one in payloads]
        return [one for _, one in sorted({one.seq: one for one in found}.items())]

    def acknowledge(self) -> None:
        found = self.reports()
        if found:
            ack = {"incarnation": 1, "seq": found[-1].seq}
            self.peer.publish(self.topics["ack"], json.dumps(ack).encode())


def live(speaker: Speaker, weeks: int) -> int:
    """Let weeks go by without a network; return how many reports were made."""
    made = 0
    for hour in range(weeks * WEEK):
        speaker.now += HOUR
        if hour % WEEK == WEEK // 2:
            speaker.boot()  # the power goes once a week
        speaker.voice.complain("E_UNREACHABLE", "the server cannot be reached")
        speaker.outbox.add_telemetry(batch(speaker.now))
        made += speaker.tell(("slot", hour // 6))  # something else every six hours
    return made


@pytest.mark.slow
def test_five_weeks_offline_lose_no_report_and_stay_within_the_disk_budget(
    speaker: Speaker, broker: tuple[str, int]
) -> None:
    made = live(speaker, 5)
    assert made == 5 * 28  # none for the errors of each hour
    assert [one.seq for one in speaker.outbox.pending()] == list(range(1, made + 1))
    limit = (SMALL.telemetry_kb + SMALL.reports_kb) << 10
    taken = sum(one.stat().st_blocks * 512 for one in (speaker.dir / "outbox").iterdir())
    assert taken <= limit + 8192  # and the chain's own file
    kept = speaker.outbox.pending_telemetry()
    key = speaker.key.public
    oldest = open_telemetry(kept[0].read(), speaker.me.device, [key])
    assert oldest.until == speaker.now - (len(kept) - 1) * HOUR  # the oldest went
    server = Server(speaker, broker)
    catch_up(speaker, server)
    check_chain(server.reports(), made)
    heard = server.peer.payloads(server.topics["telemetry"])
    assert len({sha256(one) for one in heard}) == len(kept)
    assert speaker.tell(("slot", 0))  # the next report says what was lost
    eventually(lambda: len(server.reports()) == made + 1, "it arrives", 30)
    [lost] = [text for text in server.reports()[-1].errors if "TELEMETRY" in text]
    assert "batches went for want of room" in lost
    server.peer.leave()


def catch_up(speaker: Speaker, server: Server) -> None:
    """Connect, and speak until nothing waits any more."""
    speaker.session.start()

    def arrived() -> bool:
        while not speaker.events.empty():
            speaker.live(speaker.events.get())
        speaker.voice.look()
        server.acknowledge()
        waits = (*speaker.outbox.pending(), *speaker.outbox.pending_telemetry())
        return speaker.session.connected and not waits

    eventually(arrived, "everything arrived", 60)


def check_chain(reports: list[Report], count: int) -> None:
    """Check that every report is there and proves the one before it."""
    assert [one.seq for one in reports] == list(range(1, count + 1))
    before = [FIRST, *(sha256(write(one)) for one in reports[:-1])]
    assert [one.prev for one in reports] == before
    told = [text for one in reports for text in one.errors if "E_UNREACHABLE" in text]
    assert any(text.endswith("(x6)") for text in told)


def test_beyond_the_budget_only_what_serves_is_worth_a_report(speaker: Speaker) -> None:
    speaker.budget = OutboxSettings(telemetry_kb=16, reports_kb=16)
    speaker.boot()
    made = [speaker.tell(number, "runs 1.0.0") for number in range(20)]
    assert 2 <= sum(made) <= 5
    assert made == sorted(made, reverse=True)
    assert speaker.outbox.is_full
    assert speaker.tell(99, "runs 1.1.0")
    assert not speaker.tell(100, "runs 1.1.0")


def test_telemetry_gives_way_to_a_report_on_a_full_disk(speaker: Speaker) -> None:
    for hour in range(8):
        speaker.outbox.add_telemetry(batch(speaker.now + hour))
    full = True

    def fill(operation: str, path: Path) -> None:
        nonlocal full
        if operation == "unlink" and "telemetry" in path.name:
            full = False  # there is room again
        if operation == "write" and full:
            raise RetryableError("E_NO_SPACE", f"cannot write {path}")

    stop = fsio.watch(fill)
    try:
        assert speaker.tell("something")
    finally:
        stop()
    assert len(speaker.outbox.pending()) == 1
    assert 0 < len(speaker.outbox.pending_telemetry()) < 8


def test_a_disk_that_takes_nothing_costs_no_report_and_no_error(speaker: Speaker) -> None:
    speaker.voice.complain("E_ODD", "something odd")

    def refuse(operation: str, path: Path) -> None:
        if operation == "write":
            raise RetryableError("E_NO_SPACE", f"cannot write {path}")

    stop = fsio.watch(refuse)
    try:
        assert not speaker.tell("something")
    finally:
        stop()
    assert speaker.outbox.pending() == []
    assert speaker.tell("something")
    [sealed] = speaker.outbox.pending()
    report = open_report(sealed.read(), speaker.me.device, [speaker.key.public])
    assert report.errors == ["E_ODD: something odd"]


def test_the_same_error_is_one_row_with_a_number(speaker: Speaker) -> None:
    for number in range(50):
        speaker.voice.complain("E_SAME", "again")
        speaker.voice.complain(f"E_{number}", "once")
    assert speaker.tell("something")
    [sealed] = speaker.outbox.pending()
    errors = open_report(sealed.read(), speaker.me.device, [speaker.key.public]).errors
    assert "E_SAME: again (x50)" in errors
    assert errors[0].startswith("E_MORE: ")
    assert len(errors) <= 32
