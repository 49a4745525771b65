"""Loading gives way to answering."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.agent import models
from tests.agent.runtime.conftest import serve

from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.runtime.priority import YIELD_NICE, Precedence, give_way
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Store


def threads(pid: int) -> set[int]:
    return {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}


def niceness(pid: int) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads(pid)]


def is_first(thread: int) -> bool:
    return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR


@pytest.fixture
def _may_come_first() -> None:
    """Skip where this process may not have real-time threads."""
    refused: list[OSError] = []

    def ask() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        except OSError as error:
            refused.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    if refused:
        pytest.skip(f"real-time threads are not for this user: {refused[0]}")


@contextmanager
def answering(precedence: Precedence) -> Iterator[int]:
    """A thread that has joined; yields its id."""
    joined, leave = threading.Event(), threading.Event()

    def work() -> None:
        precedence.join()
        joined.set()
        leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    joined.wait()
    assert thread.native_id
    try:
        yield thread.native_id
    finally:
        leave.set()
        thread.join()


@pytest.mark.usefixtures("_may_come_first")
def test_answers_come_first_while_a_release_is_loaded_and_only_then() -> None:
    precedence = Precedence()
    with answering(precedence) as one:
        assert not is_first(one)
        with precedence.while_loading():
            assert is_first(one)
            with answering(precedence) as late:
                assert is_first(late)
            with precedence.while_loading():
                pass
            assert is_first(one)  # another load goes on
            assert not is_first(threading.get_native_id())
        assert not is_first(one)


@pytest.mark.usefixtures("_may_come_first")
def test_a_load_without_end_does_not_leave_answers_first() -> None:
    precedence = Precedence(at_most_s=0.05)
    with answering(precedence) as one:
        with precedence.while_loading():
            lowered = threading.Event()
            for _ in range(600):
                if not is_first(one):
                    break
                lowered.wait(0.05)
            assert not is_first(one)
        with precedence.while_loading():
            assert is_first(one)  # the next load has its own second
        assert not is_first(one)


@pytest.mark.usefixtures("_may_come_first")
def test_what_an_answering_thread_starts_is_not_first() -> None:
    precedence = Precedence()
    seen: list[bool] = []

    def work() -> None:
        precedence.join()
        with precedence.while_loading():
            inner = threading.Thread(
                target=lambda: seen.append(is_first(threading.get_native_id()))
            )
            inner.start()
            inner.join()
            seen.append(is_first(threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]


def test_where_answers_may_not_come_first_they_come_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    precedence = Precedence()
    with answering(precedence) as one, precedence.while_loading():
        assert not is_first(one)


def test_only_the_thread_that_gives_way_does() -> None:
    seen: list[int] = []
    mine = os.getpriority(os.PRIO_PROCESS, 0)

    def work() -> None:
        give_way()
        Precedence().join()  # keeps what the thread has
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
