"""Swaps lose no request, rollback is a pointer move, and a dead child is noticed."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent import models
from tests.agent.runtime.conftest import SLOT, Exits, Http, serve
from tests.agent.runtime.test_limits import is_running
from tests.support.waiting import eventually

from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.children import child_environment
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Placed, Store

Start = Callable[[RuntimeSettings], RuntimeClient]


class Load:
    """Clients that ask without a pause until they are told to stop."""

    def __init__(self, client: RuntimeClient, threads: int) -> None:
        self.failures: list[object] = []
        self.versions: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(Http(client),)) for _ in range(threads)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, http: Http) -> None:
        while not self._stop.is_set():
            try:
                status, content = http.infer()
            except OSError as error:
                self.failures.append(error)
                return
            if status != 200:
                self.failures.append(content)
            self.versions.append(content.get("model_version", ""))


@pytest.mark.parametrize("big", [False, True], ids=["in the loop", "in the pool"])
def test_fifty_swaps_under_load_fail_no_request(
    client: RuntimeClient, store: Store, big: bool
) -> None:
    make = models.slow if big else models.linear
    releases = [
        models.release(store, make(n), _gold(make(n), big), version=f"{n}.0.0")
        for n in range(1, 6)
    ]
    serve(client, releases[0])
    with Load(client, 4) as load:
        for number in range(1, 51):
            serve(client, releases[number % 5])
        eventually(lambda: load.versions[-1:] == ["1.0.0"], "the last release answers")
    assert load.failures == []
    assert set(load.versions) == {f"{n}.0.0" for n in range(1, 6)}
    counted = sum(row.requests for row in client.statistics().releases)
    assert counted == len(load.versions)


def _gold(model: bytes, big: bool) -> bytes | None:
    return None if big else models.golden(model)  # without a warm run none counts as quick


def test_sessions_out_of_service_give_their_memory_back(
    client: RuntimeClient, store: Store
) -> None:
    releases = [models.good(store, float(n), version=f"{n}.0.0") for n in range(3)]
    serve(client, releases[0])
    before = client.statistics().rss_kib
    for number in range(30):
        serve(client, releases[number % 3])
    eventually(
        lambda: client.statistics().rss_kib < before + 15_360, "memory is given back"
    )


def test_rollback_moves_a_pointer_to_the_resident_session(
    client: RuntimeClient, store: Store
) -> None:
    one, two = models.good(store), models.good(store, 1.0, version="2.0.0")
    serve(client, one)
    with pytest.raises(RetryableError, match="E_NOT_LOADED"):
        client.restore(SLOT)
    serve(client, two)
    moved = client.restore(SLOT)
    assert (moved.key, moved.previous) == (one.record.key, two.record.key)
    assert Http(client).infer()[1]["model_version"] == "1.0.0"


def test_a_release_that_is_resident_is_not_loaded_again(
    client: RuntimeClient, store: Store
) -> None:
    one, two = models.good(store), models.good(store, 1.0, version="2.0.0")
    serve(client, one)
    serve(client, two)
    loaded = client.load(SLOT, one)
    assert (loaded.resident, loaded.load_ms, loaded.digest) == (True, 0, one.record.digest)
    assert client.activate(SLOT, one.record.key).previous == two.record.key
    assert client.activate(SLOT, one.record.key).previous == two.record.key


def test_a_candidate_that_is_discarded_answers_nothing(
    client: RuntimeClient, store: Store
) -> None:
    one, two = models.good(store), models.good(store, 1.0, version="2.0.0")
    serve(client, one)
    client.load(SLOT, two)
    client.discard(SLOT, two.record.key)
    client.discard(SLOT, two.record.key)
    with pytest.raises(RetryableError, match="E_NOT_LOADED"):
        client.activate(SLOT, two.record.key)
    client.discard(SLOT, one.record.key)  # active: stays
    assert Http(client).infer()[0] == 200


@pytest.mark.parametrize("bad", ["digest", "garbage", "golden"])
def test_a_bad_release_is_refused_and_the_old_one_goes_on(
    client: RuntimeClient, store: Store, bad: str
) -> None:
    serve(client, models.good(store))
    candidate = _bad_release(store, bad)
    with pytest.raises(RefusedError) as caught:
        client.load(SLOT, candidate)
    assert caught.value.code in ("E_DIGEST", "E_LOAD", "E_WARM", "E_GOLDEN")
    assert Http(client).infer()[1]["model_version"] == "1.0.0"


def _bad_release(store: Store, bad: str) -> Placed:
    if bad == "garbage":
        return models.release(store, b"garbage", version="2.0.0")
    if bad == "golden":
        return models.release(store, models.linear(1.0), b"garbage", version="2.0.0")
    placed = models.good(store, 1.0, version="2.0.0")
    path = Path(placed.files[0].path)
    path.chmod(0o600)
    path.write_bytes(models.linear(5.0))
    return placed


def test_a_file_that_is_missing_is_worth_a_retry(
    client: RuntimeClient, store: Store
) -> None:
    placed = models.good(store)
    Path(placed.files[0].path).unlink()
    with pytest.raises(RetryableError, match="E_MISSING"):
        client.load(SLOT, placed)


def test_an_altered_active_file_is_found_and_repaired(
    client: RuntimeClient, store: Store
) -> None:
    placed = models.good(store)
    entry = placed.record.files[0]
    whole = Path(placed.files[0].path).read_bytes()
    serve(client, placed)
    assert client.verify(SLOT).intact
    path = store.path_of(entry.digest)
    path.chmod(0o600)
    path.write_bytes(whole[:-1] + b"!")
    found = client.verify(SLOT)
    assert not found.intact
    assert found.digest == found.mapped != entry.digest
    store.discard(entry.digest)
    assert client.verify(SLOT).digest == ""
    models.put(store, "model.onnx", whole)
    assert client.verify(SLOT).digest == entry.digest
    assert not client.verify(SLOT).intact  # what is mapped is still the altered file
    with Load(client, 1) as load:
        serve(client, store.place(placed.record))
        eventually(lambda: load.versions, "an answer")
    assert load.failures == []
    assert client.verify(SLOT).intact


def test_a_file_replaced_by_another_is_found(client: RuntimeClient, store: Store) -> None:
    placed = models.good(store)
    serve(client, placed)
    path = Path(placed.files[0].path)
    path.unlink()
    path.write_bytes(b"something else")
    found = client.verify(SLOT)
    assert (found.intact, found.mapped) == (False, placed.record.digest)
    assert found.digest != placed.record.digest


def test_a_child_that_dies_is_noticed_and_started_again_on_the_same_model(
    client: RuntimeClient, store: Store, exits: Exits
) -> None:
    placed = models.good(store)
    serve(client, placed)
    boot = client.statistics().boot
    ready = client.ready
    assert ready is not None
    os.kill(ready.pid, signal.SIGSEGV)
    ended = exits.first()
    assert (ended.pid, ended.code) == (ready.pid, -signal.SIGSEGV)
    assert "SIGSEGV" in ended.reason
    assert client.ready is None
    with pytest.raises(RetryableError, match="E_RUNTIME_GONE"):
        client.statistics()
    client.start()
    serve(client, placed)
    assert Http(client).infer()[0] == 200
    assert client.statistics().boot != boot


def test_a_model_that_hangs_the_load_costs_the_child_and_not_the_supervisor(
    client: RuntimeClient, store: Store, exits: Exits
) -> None:
    placed = models.release(store, models.endless(), models.golden(models.linear()))
    with pytest.raises(RetryableError, match="E_RUNTIME_TIMEOUT"):
        client.load(SLOT, placed, timeout_s=1)
    assert "SIGKILL" in exits.first().reason
    client.start()
    serve(client, models.good(store, version="2.0.0"))
    assert Http(client).infer()[0] == 200


def test_a_model_that_wants_too_much_memory_is_contained(
    start: Start, store: Store, exits: Exits
) -> None:
    client = start(RuntimeSettings(memory_mb=1024))
    good = models.good(store)
    serve(client, good)
    hog = models.release(
        store, models.memory_hog(), models.golden(models.linear()), version="2.0.0"
    )
    with pytest.raises(RefusedError, match="E_WARM"):
        client.load(SLOT, hog)
    assert Http(client).infer()[1]["model_version"] == "1.0.0"
    assert exits.seen == []


def test_a_request_that_the_model_fails_on_is_counted_as_its_error(
    start: Start, store: Store
) -> None:
    client = start(RuntimeSettings(memory_mb=1024))
    serve(client, models.release(store, models.memory_hog()))
    status, content = Http(client).infer()
    assert status == 500
    assert "model failed" in content["error"]
    assert client.statistics().releases[0].errors == 1


def test_a_request_that_the_model_never_answers_is_ended(
    start: Start, store: Store
) -> None:
    client = start(RuntimeSettings(request_s=0.5, workers=1))
    serve(client, models.release(store, models.endless()))
    serve(client, models.good(store), "other")
    status, content = Http(client).infer()
    assert status == 500
    assert "terminate" in content["error"]
    assert client.statistics().releases[0].errors == 1
    assert Http(client).get("/v2/models/other/ready")[0] == 200


def test_slots_are_apart(client: RuntimeClient, store: Store) -> None:
    one, two = models.good(store), models.good(store, 1.0, version="2.0.0")
    serve(client, one, "left")
    serve(client, two, "right")
    http = Http(client)
    assert http.get("/v2/models/left")[1]["versions"] == ["1.0.0"]
    client.unload("left")
    client.unload("left")
    assert http.get("/v2/models/left")[0] == 404
    assert http.get("/v2/models/right")[1]["versions"] == ["2.0.0"]


def test_stopping_is_no_death_and_may_be_repeated(
    client: RuntimeClient, exits: Exits
) -> None:
    ready = client.ready
    assert ready is not None
    client.stop()
    client.stop()
    assert not is_running(ready.pid)
    assert exits.seen == []
    assert client.start().pid != ready.pid


def test_a_socket_path_that_is_too_long_is_a_clear_error(tmp_path: Path) -> None:
    client = RuntimeClient(RuntimeSettings(socket=tmp_path / ("x" * 120)))
    with pytest.raises(RetryableError, match="too long") as caught:
        client.start()
    assert caught.value.code == "E_RUNTIME_START"
    client.stop()


PARENT = """
import json, sys, threading
from pathlib import Path
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.settings import RuntimeSettings
print(RuntimeClient(RuntimeSettings()).start().pid, flush=True)
threading.Event().wait()
"""


def test_the_child_dies_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], env=child_environment(), stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = json.loads(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    eventually(lambda: not is_running(pid), "the child dies")
