"""Whatever file of a device is damaged while it is off, it comes back and serves."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.power_cut import Update, runs
from tests.agent.rig import Rig
from tests.support.kill import KillPoint, Order
from tests.support.waiting import eventually

from modelfleet_manifests.release import release_ref

# Who the device is, and whom it believes from the first day: lost with the medium.
IDENTITY = ("enrolment.json", "keys/", "factory/", "lock", "endpoint.sock")


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if data else b"\1"


def flip_inside(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def halve(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGES: list[Callable[[bytes], bytes]] = [flip, flip_inside, halve, lambda _: b""]


def files_of(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {path: str(path.relative_to(folder)) for path in found}
    return sorted(path for path, name in names.items() if not name.startswith(IDENTITY))


def damage(path: Path, how: Callable[[bytes], bytes]) -> None:
    path.chmod(0o600)
    path.write_bytes(how(path.read_bytes()))


class Rot(Update):
    """Where the active file is damaged, what ran before answers until it is repaired."""

    def finish(self) -> None:
        self.before = release_ref(self.old).id
        super().finish()

    @property
    def serving(self) -> set[str]:
        return {*super().serving, getattr(self, "before", "")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", DAMAGES, ids=["flip", "flip-inside", "halve", "empty"])
def test_a_damaged_file_is_done_without_or_fetched_again(
    rig: Rig, how: Callable[[bytes], bytes]
) -> None:
    story = Rot(rig)
    story.round(Order("trace", log=str(rig.dir.parent / "trace")))
    kinds: set[str] = set()
    for path in files_of(rig.dir):
        kind = path.relative_to(rig.dir).parts[0]
        if not path.exists() or (kind in kinds and kind not in {"store", "releases"}):
            continue  # gone meanwhile, or another of its kind
        kinds.add(kind)
        rig.acknowledge()
        rig.kill()
        damage(path, how)
        rig.start()
        story.await_end()
        story.check()
        assert rig.stop() == 0
        rig.start()
        rig.reported(lambda row: runs(row, story.new), f"serves without {path}")


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES, ids=["flip", "flip-inside", "halve", "empty"])
def test_a_journal_that_rots_in_the_middle_of_an_update_costs_work_only(
    rig: Rig, how: Callable[[bytes], bytes]
) -> None:
    story = Update(rig)
    rig.acknowledge()
    rig.order(Order("kill", KillPoint("write", "journal/linear", 4)))
    story.wish()
    assert story.dies()
    damage(rig.dir / "journal" / "linear", how)
    rig.order(None)
    rig.start()
    story.await_end()
    story.check()


@pytest.mark.slow
def test_a_partial_download_that_rots_is_fetched_again(rig: Rig) -> None:
    story = Update(rig)
    rig.acknowledge()
    rig.order(Order("kill", KillPoint("seal", "incoming")))
    story.wish()
    assert story.dies()
    partials = [one for one in (rig.dir / "incoming").iterdir() if one.suffix != ".note"]
    assert partials
    for one in partials:
        damage(one, flip)
    rig.order(None)
    rig.start()
    story.await_end()
    story.check()
    eventually(lambda: runs_intact(story), "it serves, intact")


def runs_intact(story: Update) -> bool:
    rows = [one.slots.get("linear") for one in story.rig.reports]
    return bool(rows and rows[-1] and runs(rows[-1], story.new))
