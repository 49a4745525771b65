"""A patch is applied while it comes, and its result counts in its own phase only."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.agent import models
from tests.agent.runtime.test_limits import is_running
from tests.agent.update.conftest import SLOT, Bench, goal, offer
from tests.support.solo_http import Fault
from tests.support.waiting import eventually

from modelfleet_agent.journal import Pages
from modelfleet_agent.link.partial import Progress
from modelfleet_agent.runtime.patch import Spec
from modelfleet_agent.store import Record
from modelfleet_agent.update.ahead import Ahead
from modelfleet_agent.update.engine import PAGE
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.work import Entry
from modelfleet_manifests import delta

OLD, NEW = models.wide(width=200_000), models.wide(1, width=200_000)
ROOMY: Callable[[], int] = lambda: 1 << 40  # noqa: E731


@pytest.fixture(scope="module")
def patch() -> bytes:
    made = delta.encode(OLD, NEW)
    assert len(made) > 1 << 20
    return made


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "old").write_bytes(OLD)
    return Spec(
        old=str(tmp_path / "old"),
        patch=str(tmp_path / "patch"),
        new=str(tmp_path / "new"),
        digest=hashlib.sha256(NEW).hexdigest(),
        length=len(NEW),
        grows=True,
    )


def download(spec: Spec, patch: bytes, progress: Progress) -> None:
    """Write the patch as a download does."""
    with Path(spec.patch).open("wb", buffering=0) as file:
        for at in range(0, len(patch), 1 << 16):
            file.write(patch[at : at + (1 << 16)])
            progress(file.tell(), len(patch))


def test_a_patch_is_applied_while_it_comes(spec: Spec, patch: bytes) -> None:
    ahead = Ahead(ROOMY, 0)
    download(spec, patch, ahead.follow(spec, size=len(patch), memory=1 << 20))
    begun = ahead.take_patching(spec)
    assert begun
    begun.finish()
    assert Path(spec.new).read_bytes() == NEW
    assert ahead.take_patching(spec) is None


def test_a_download_that_begins_anew_spoils_what_was_begun(
    spec: Spec, patch: bytes
) -> None:
    ahead = Ahead(ROOMY, 0)
    progress = ahead.follow(spec, size=len(patch), memory=1 << 20)
    download(spec, patch, progress)
    download(spec, patch, progress)
    assert ahead.take_patching(spec) is None
    assert not Path(spec.new).exists()


@pytest.mark.parametrize(
    "ahead", [Ahead(lambda: 1 << 20, 0), Ahead(ROOMY, 1 << 60)], ids=["memory", "disk"]
)
def test_nothing_is_begun_without_room(ahead: Ahead, spec: Spec, patch: bytes) -> None:
    download(spec, patch, ahead.follow(spec, size=len(patch), memory=1 << 20))
    assert ahead.take_patching(spec) is None


def test_what_nobody_asked_for_ends(spec: Spec, patch: bytes) -> None:
    ahead = Ahead(ROOMY, 0)
    download(spec, patch, ahead.follow(spec, size=len(patch), memory=1 << 20))
    eventually(children, "it runs")
    before = children()
    ahead.drop()
    eventually(lambda: not any(map(is_running, before)), "they are gone")
    assert not Path(spec.new).exists()


def children() -> list[int]:
    task = Path("/proc/self/task")
    return [
        int(pid)
        for one in task.iterdir()
        for pid in (one / "children").read_text().split()
        if b"runtime.patch" in Path(f"/proc/{pid}/cmdline").read_bytes()
        or b"launcher" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.fixture
def old(bench: Bench) -> Record:
    record = offer(bench.files, "1.0.0", OLD)
    bench.have(record)
    return record


def begin(bench: Bench, old: Record, patch: bytes) -> tuple[Record, str]:
    new = offer(bench.files, "1.1.0", NEW)
    return new, bench.files.add_delta(new.digest, old.digest, patch)


def test_an_update_by_such_a_delta_serves_and_leaves_nothing(
    bench: Bench, old: Record, patch: bytes
) -> None:
    new, _ = begin(bench, old, patch)
    bench.bring(goal(new, "b" * 32))
    assert bench.serves() == new.digest
    assert bench.engine.memory.state.method == "delta"
    assert not list(bench.store.partials.iterdir())
    assert not bench.notices


def test_a_patch_that_is_cut_on_its_way_is_whole_in_the_end(
    bench: Bench, old: Record, patch: bytes
) -> None:
    new, blob = begin(bench, old, patch)
    path = f"/blobs/sha256/{blob}"
    bench.server.break_next(path, Fault(cut=len(patch) - 70_000))
    bench.bring(goal(new, "b" * 32))
    assert bench.serves() == new.digest
    assert bench.engine.memory.state.method == "delta"
    assert not bench.notices


def test_a_bad_end_falls_back_to_the_whole_file(
    bench: Bench, old: Record, patch: bytes
) -> None:
    spoilt = patch[:-9] + bytes([patch[-9] ^ 1]) + patch[-8:]
    new, _ = begin(bench, old, spoilt)
    bench.bring(goal(new, "b" * 32))
    assert bench.serves() == new.digest
    assert bench.engine.memory.state.method == "full"
    assert [one.code for one in bench.notices] == ["E_DELTA"]
    assert not list(bench.store.partials.iterdir())


def test_after_a_restart_in_the_download_nothing_is_begun_early(
    bench: Bench, old: Record, patch: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    follow = Ahead.follow

    def note(self: Ahead, spec: Spec, *, size: int, memory: int) -> Progress:
        begun.append(spec.digest)
        return follow(self, spec, size=size, memory=memory)

    monkeypatch.setattr(Ahead, "follow", note)
    new, _ = begin(bench, old, patch)
    entry = Entry(phase=Phase.FETCHING, goal=goal(new, "b" * 32))
    journal = Pages(bench.dir / "journal" / SLOT, size=PAGE)
    journal.write(msgspec.json.encode(entry))
    bench.open()
    bench.engine.place.settle(old)
    bench.engine.resume()
    bench.settle()
    assert bench.serves() == new.digest
    assert begun == []
