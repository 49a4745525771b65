"""Loading gives way to answering, and the self-test to both."""

import os
import sys
import threading
from pathlib import Path

import pytest
from tests.agent import models
from tests.agent.runtime.conftest import serve

from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.runtime.limits import Limits, run_limited
from modelfleet_agent.runtime.priority import YIELD_NICE, answer_promptly, give_way
from modelfleet_agent.store import Store

AUTOGROUP = Path("/proc/self/autogroup")


def niceness(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks]


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
    assert niceness(ready.pid).count(YIELD_NICE) == 1
    assert min(niceness(ready.pid)) == 0


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the kernel does not weigh sessions")
def test_a_limited_child_is_nice_as_a_session_too() -> None:
    argv = [sys.executable, "-c", "print(open('/proc/self/autogroup').read())"]
    assert run_limited(argv, limits=Limits(nice=7)).stdout.split()[-1] == b"7"
