"""A slot inside an application follows what the agent keeps and fails no call."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.agent import models
from tests.support.waiting import eventually

from modelfleet_agent import facts
from modelfleet_agent.errors import RetryableError, UsageError
from modelfleet_agent.runtime import Slot
from modelfleet_agent.store import Placed, Slots, Store
from modelfleet_agent.update.deriving import Deriver
from modelfleet_manifests.profiles import Facts

X = {"x": np.ones((1, 4), np.float32)}


@pytest.fixture
def slots(store: Store) -> Slots:
    return Slots(store)


@pytest.fixture
def one(store: Store, slots: Slots) -> Placed:
    placed = models.good(store, 1.0)
    slots.advance("linear", placed.record)
    return placed


@pytest.fixture
def slot(store: Store, one: Placed) -> Iterator[Slot]:
    with Slot("linear", store.root, follow_s=0.01) as made:
        yield made


def test_it_answers_with_the_release_that_the_link_names(slot: Slot, one: Placed) -> None:
    answer = slot.run(X)
    assert answer.outputs["y"].shape == (1, 3)
    assert (answer.version, answer.digest) == ("1.0.0", one.record.digest)
    assert [spec.name for spec in slot.inputs] == ["x"]
    assert list(slot.run(X, ["y"]).outputs) == ["y"]


def test_it_follows_updates_under_load_without_a_failed_or_mixed_answer(
    slot: Slot, store: Store, slots: Slots
) -> None:
    base = slot.run(X).outputs["y"] - 1.0
    ended, wrong, count = threading.Event(), [], [0]

    def ask() -> None:
        while not ended.is_set():
            answer = slot.run(X)
            bias = float(answer.version.partition(".")[0])
            if not np.allclose(answer.outputs["y"] - bias, base, atol=1e-4):
                wrong.append(answer)
            count[0] += 1

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for number in range(2, 12):
        placed = models.good(store, float(number), version=f"{number}.0.0")
        slots.advance("linear", placed.record)
        eventually(lambda: slot.version == placed.record.version, "it follows")  # noqa: B023
    ended.set()
    for thread in asking:
        thread.join()
    assert wrong == []
    assert count[0] > 10


def test_an_emptied_slot_answers_nothing_and_comes_back(
    slot: Slot, slots: Slots, one: Placed
) -> None:
    slots.remove("linear")
    eventually(lambda: slot.version is None, "it is empty")
    with pytest.raises(RetryableError, match="E_NOT_LOADED"):
        slot.run(X)
    slots.advance("linear", one.record)
    eventually(lambda: slot.version == "1.0.0", "it is back")


def test_an_altered_release_is_not_taken_and_the_one_before_goes_on(
    slot: Slot, store: Store, slots: Slots
) -> None:
    placed = models.good(store, 2.0, version="2.0.0")
    path = store.path_of(placed.record.files[0].digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    slots.advance("linear", placed.record)
    eventually(lambda: slot.trouble is not None, "it is noticed")
    assert slot.trouble is not None
    assert slot.trouble.code == "E_DIGEST"
    assert slot.run(X).version == "1.0.0"


def test_a_directory_that_is_no_agents_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="E_NO_AGENT"):
        Slot("linear", store.root / "nothing")


def test_a_derived_file_is_loaded_where_this_runtime_made_it(
    store: Store, slots: Slots
) -> None:
    device = Facts(runtime=f"onnxruntime {onnxruntime.__version__}")
    facts.remember(store.root, device)
    placed = models.good(store, 1.0)
    made = Deriver(store, facts=lambda: device, prepares=True).prepare(
        placed.record, lambda error: pytest.fail(str(error))
    )
    assert made.derived
    slots.advance("linear", placed.record)
    with Slot("linear", store.root) as slot:
        expected = slot.run(X).outputs["y"]
        assert slot.loaded == made.derived.digest
    path = Path(made.derived.path)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with Slot("linear", store.root) as slot:  # altered: what was signed answers
        assert slot.loaded == placed.record.files[0].digest
        assert np.allclose(slot.run(X).outputs["y"], expected, atol=1e-5)
    facts.remember(store.root, Facts(runtime="onnxruntime 0"))
    with Slot("linear", store.root) as slot:
        assert slot.loaded == placed.record.files[0].digest
