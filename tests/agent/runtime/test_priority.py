"""Loading gives way to answering."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from tests.agent import models
from tests.agent.runtime.conftest import serve

from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.runtime.priority import YIELD_NICE, answer_promptly, give_way
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Store


def threads(pid: int) -> set[int]:
    return {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}


def niceness(pid: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads(pid)]


def test_only_the_thread_that_gives_way_does() -> None:
    seen: list[int] = []
    mine = os.getpriority(os.PRIO_PROCESS, 0)

    def work() -> None:
        give_way()
        answer_promptly()  # keeps what the thread has
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [min(mine + YIELD_NICE, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine


def test_loading_gives_way_to_answers(client: RuntimeClient, store: Store) -> None:
    serve(client, models.release(store, models.linear(1.0)))
    ready = client.ready
    assert ready
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness(ready.pid).count(min(mine + YIELD_NICE, 19)) == 1
    assert min(niceness(ready.pid)) == mine


def test_a_slot_has_threads_and_the_child_a_niceness_of_their_own(
    start: Callable[[RuntimeSettings], RuntimeClient], store: Store
) -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    client = start(RuntimeSettings(nice=3, slot_threads={"wide": 3}))
    release = models.release(store, models.linear(1.0))
    ready = client.ready
    assert ready
    client.load("narrow", release)
    before = threads(ready.pid)
    client.load("wide", release)
    assert len(threads(ready.pid) - before) >= 2
    assert set(niceness(ready.pid)) == {mine + 3}  # they would keep what a load takes less
