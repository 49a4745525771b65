"""Stories of one slot that can be cut anywhere, and what must be true after each."""

from abc import ABC, abstractmethod
from pathlib import Path

from tests.agent import models
from tests.agent.rig import SLOT, Rig
from tests.support.kill import KillPoint, Order, enumerate_points
from tests.support.waiting import eventually

from modelfleet_agent import fsio
from modelfleet_agent.store import Record
from modelfleet_agent.store.record import decode
from modelfleet_manifests import delta, topics
from modelfleet_manifests.assignment import ByRemove
from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.release import Release, release_ref
from modelfleet_manifests.report import Running, SlotReport


class Story(ABC):
    """What happens to one slot, over and over again: `wish`, then `is_over`."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.number = 0
        self.old = self.new = self.make()
        rig.order(None)
        rig.fleet.publish()
        rig.assign()
        rig.deploy(self.old)
        rig.start()
        rig.serves(self.old)

    def make(self, *, golden: bytes | None = None, trial_ms: int = 100) -> Release:
        """List the next release, with a delta from what serves."""
        self.number += 1
        data = models.linear(float(self.number))
        rig, version = self.rig, f"1.0.{self.number}"
        made = rig.release(
            version, data, golden=golden, trial_ms=trial_ms, rollback_to=self.back()
        )
        if self.number > 1:
            base = rig.fleet.files.blobs[self.old.variants[0].files[0].digest]
            digests = [one.variants[0].files[0].digest for one in (made, self.old)]
            rig.fleet.files.add_delta(digests[0], digests[1], delta.encode(base, data))
        return made

    def back(self) -> list[str]:
        return [self.old.version] if self.number > 1 else []

    def prepare(self) -> None:
        """Get to where changes are looked at from."""
        self.new = self.old

    @abstractmethod
    def wish(self) -> None:
        """Tell the device what is wanted."""

    @abstractmethod
    def is_over(self, row: SlotReport) -> bool:
        """Say whether a report tells the end."""

    def finish(self) -> None:
        """Get back to where the next round begins."""
        self.old = self.new

    @property
    def serving(self) -> set[str]:
        """Releases of which one must serve, wherever it is cut."""
        return {release_ref(self.old).id, release_ref(self.new).id}

    # the sweep

    def trace(self, log: Path) -> list[KillPoint]:
        """Run one round and return every change of the disk in it."""
        self.rig.acknowledge()
        self.prepare()
        self.rig.order(Order("trace", log=str(log)))
        self.wish()
        self.await_end()
        self.rig.order(None)
        self.check()
        self.finish()
        lines = log.read_text().splitlines()
        hidden = [line for line in lines if line.startswith("UNANNOUNCED")]
        assert not hidden, "changes that do not go through fsio"
        return enumerate_points(lines)

    def round(self, order: Order) -> bool:
        """Run one round that is disturbed; False where its point was not reached."""
        self.rig.acknowledge()
        self.prepare()
        self.rig.order(order)
        self.wish()
        died = order.do == "kill" and self.dies()
        if order.do != "kill":
            self.await_end()
        self.rig.order(None)
        if died:
            self.rig.start()
        died = self.await_end() or died
        self.check()
        self.finish()
        return died

    def dies(self) -> bool:
        """Wait for the end of the agent or of the round; say whether it died."""
        process = self.rig.process
        assert process
        eventually(lambda: process.poll() is not None or self.ended(), "an end", 60)
        return process.poll() == -9

    def ended(self) -> bool:
        rows = [one.slots.get(SLOT) for one in self.rig.reports]
        return any(row and self.is_over(row) for row in rows)

    def await_end(self) -> bool:
        """Wait for the end; until then each answer is one of a release that may serve.

        Returns:
            The agent died meanwhile, just after it had told of the end, and was started.
        """
        process, late = self.rig.process, False

        def look() -> bool:
            nonlocal late
            if process and process.poll() == -9 and not late:
                late = True
                self.rig.start()
            return self.answers_well() and self.ended()

        try:
            eventually(look, "the end", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.rig.story()}") from None
        return late

    def answers_well(self) -> bool:
        try:
            status, content = self.rig.answer()
        except (OSError, ValueError):
            return False  # it starts, or has yet to write where it listens
        if not self.serving:
            return True
        if status != 200:
            return False  # it loads
        answered = content["parameters"]["modelfleet_release"]
        assert answered in self.serving, f"{answered} may not serve"
        return True

    def check(self) -> None:
        """Nothing is on the disk that nobody needs, and nothing is missing."""
        look = lambda: self.leaks() == []  # noqa: E731
        try:
            eventually(look, "a tidy disk", 20)
        except AssertionError:
            raise AssertionError(f"{self.leaks()}\n{self.rig.story()}") from None

    def named(self) -> list[Release]:
        """Releases that the held deployment names."""
        return [self.new, self.old]

    def leaks(self) -> list[str]:
        folder = self.rig.dir
        found = [str(path) for path in folder.rglob(f"{fsio.TMP}*")]
        found += [str(path) for path in (folder / "incoming").iterdir()]
        files = [
            file.digest
            for release in self.named()
            for file in (*release.variants[0].files, release.variants[0].golden.file)
        ]
        kept = {*files, *(f.digest for record in self.links() for f in record.wanted)}
        there = {path.name for path in (folder / "store").iterdir()}
        found += [f"store: {name}" for name in there ^ kept]
        return found

    def links(self) -> list[Record]:
        slot = self.rig.dir / "slots" / SLOT
        paths = [slot / name for name in ("current", "previous")]
        return [decode(one.read_bytes(), name=one) for one in paths if one.is_symlink()]


class Update(Story):
    """A new release by delta, tried and kept."""

    def wish(self) -> None:
        self.new = self.make()
        self.rig.fleet.publish()
        self.rig.deploy(self.new, self.old)

    def is_over(self, row: SlotReport) -> bool:
        return runs(row, self.new)


class Packed(Update):
    """A new release that comes packed, and after a bad delta: the way down is cut, too."""

    def make(self, *, golden: bytes | None = None, trial_ms: int = 100) -> Release:
        self.number += 1
        data = models.wide(self.number, width=512)
        rig, files = self.rig, self.rig.fleet.files
        made = rig.release(
            f"1.0.{self.number}", data, golden=golden, trial_ms=trial_ms,
            rollback_to=self.back(),
        )  # fmt: skip
        digest = made.variants[0].files[0].digest
        files.add_delta(digest, EMPTY, delta.encode(b"", data))
        if self.number > 1:
            old = self.old.variants[0].files[0].digest
            files.add_delta(digest, old, b"no patch at all")
        return made


class Refusal(Story):
    """A release that fails its self-test: it is reported and what served goes on."""

    def wish(self) -> None:
        self.new = self.make(golden=models.golden(models.linear(99.0)))
        self.rig.fleet.publish()
        self.rig.deploy(self.new, self.old)

    def is_over(self, row: SlotReport) -> bool:
        wanted = row.wanted == release_ref(self.new).id
        return row.reason == "quarantined" and wanted and runs(row, self.old)

    def finish(self) -> None:
        self.new = self.old


class Withdrawal(Story):
    """A release that is taken back in the middle of its trial."""

    def prepare(self) -> None:
        self.new = self.make(trial_ms=600_000)
        self.rig.fleet.publish()
        self.rig.deploy(self.new, self.old)
        self.rig.reported(lambda row: runs(row, self.new, phase="trial"), "the trial")
        self.rig.acknowledge()

    def wish(self) -> None:
        self.rig.deploy(self.old)

    def is_over(self, row: SlotReport) -> bool:
        return runs(row, self.old) and row.reason == "as-wanted"

    def named(self) -> list[Release]:
        return [self.old]

    def finish(self) -> None:
        self.new = self.old


class Removal(Story):
    """A slot that is emptied."""

    @property
    def serving(self) -> set[str]:
        return set()  # it may have ended already

    def wish(self) -> None:
        me = self.rig.me
        envelope = self.rig.fleet.assignment(me.device, me.enrolment, {SLOT: ByRemove()})
        topic = topics.device_topic(me.device, "assignment")
        self.rig.peer.publish(topic, envelope, retain=True)

    def is_over(self, row: SlotReport) -> bool:
        return row.reason == "removed" and not row.running and row.phase == "idle"

    def named(self) -> list[Release]:
        return []

    def check(self) -> None:
        super().check()
        assert not (self.rig.dir / "slots" / SLOT).exists()

    def finish(self) -> None:
        self.rig.acknowledge()
        self.rig.assign()
        self.rig.serves(self.old)


class Return(Removal):
    """A slot that was emptied gets its model again."""

    def prepare(self) -> None:
        super().wish()
        self.rig.reported(super().is_over, "it is empty")
        self.rig.acknowledge()

    def wish(self) -> None:
        self.rig.assign()

    def is_over(self, row: SlotReport) -> bool:
        return runs(row, self.old)

    def named(self) -> list[Release]:
        return [self.old]

    def check(self) -> None:
        Story.check(self)

    def finish(self) -> None:
        pass


def runs(row: SlotReport, release: Release, *, phase: str = "idle") -> bool:
    """Say whether a report's row tells that `release` serves, intact."""
    run = row.running
    if not isinstance(run, Running) or row.phase != phase:
        return False
    return run.digest == release.variants[0].digest and run.intact
