"""The runtime child: swaps under load, tails, rollbacks, memory, the endpoint's cost."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import _agent_models as models
from bench._agent_client import ask, connect, request
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.runtime.session import Session
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Placed, Store

SLOT = "bench"


@dataclass
class Stage:
    """A running child with a store."""

    store: Store
    client: RuntimeClient
    socket: str

    def swap(self, placed: Placed) -> tuple[int, int]:
        """Load and activate; return begin and end in µs."""
        began = now_us()
        self.client.load(SLOT, placed)
        self.client.activate(SLOT, placed.record.key)
        return began, now_us()


@contextmanager
def stage(*, workers: int = 2) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.sock"
        client = RuntimeClient(RuntimeSettings(port=0, socket=path, workers=workers))
        client.start()
        yield Stage(Store(Path(folder) / "agent"), client, str(path))
        client.stop()


@contextmanager
def clients(
    address: str, count: int, pace_ms: float, shape: list[int], kind: str = "binary"
) -> Iterator[Any]:
    """Run clients; the yielded list holds what they saw once the block ends."""
    command = [sys.executable, "-m", "bench._agent_client", address, str(pace_ms)]
    processes = [
        subprocess.Popen(
            [*command, json.dumps(shape), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    seen: list[dict[str, Any]] = []
    time.sleep(1.0)
    yield seen
    for process in processes:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    seen += [json.loads(process.communicate(timeout=60)[0]) for process in processes]


def now_us() -> int:
    return time.monotonic_ns() // 1000


def failed_requests(swaps: int) -> dict[str, Any]:
    """Failed requests in `swaps` swaps under full load; each one loads anew."""
    with stage() as made:
        releases = [
            models.release(made.store, models.small(n), f"{n}.0.0") for n in range(3)
        ]
        made.swap(releases[0])
        with clients(made.socket, 2, 0, [1, 64]) as seen:
            for number in range(1, swaps + 1):
                made.swap(releases[number % 3])
    requests = sum(len(one["spans"]) for one in seen)
    return {
        "failed_requests": sum(one["failed"] for one in seen),
        "swaps": swaps,
        "requests": requests,
    }


def p99_ratio(swaps: int, rows: int, *, count: int, load: float) -> tuple[float, int]:
    """p99 of requests that overlap a swap, against steady; how many they are.

    Args:
        swaps: How many.
        rows: Of the input: 256 makes runs of about 7 ms, as of a vision model on a device;
            48 of 2 ms, shorter than a turn of the processor, so that the ratio tells of
            the kernel rather than of the agent.
        count: Clients at once.
        load: Share of the time in which a client waits for its answer.
    """
    with stage() as made:
        bytes_ = [models.layers(11, 512, rows=rows, seed=n) for n in range(3)]
        releases = [models.release(made.store, b, f"{n}.0.0") for n, b in enumerate(bytes_)]
        made.swap(releases[0])
        run_ms = run_time_ms(releases[0])
        pace = run_ms / load if load < 1 else 0.0
        windows = []
        with clients(made.socket, count, pace, [rows, 512]) as seen:
            time.sleep(2)
            for number in range(1, swaps + 1):
                windows.append(made.swap(releases[number % 3]))
                time.sleep(0.25)
    spans = np.array([span for one in seen for span in one["spans"][5:]])
    inside = np.zeros(len(spans), bool)
    near = np.zeros(len(spans), bool)  # the reaper still works: neither steady nor load
    for began, ended in windows:
        inside |= (spans[:, 0] < ended) & (spans[:, 1] > began)
        near |= (spans[:, 0] < ended + 100_000) & (spans[:, 1] > began)
    took = (spans[:, 1] - spans[:, 0]) / 1000
    steady = np.percentile(took[~near], 99)
    after = np.percentile(took[near & ~inside], 99) / steady
    loads = spread([(ended - began) / 1e6 for began, ended in windows])
    print(
        f"  p99 steady {steady:.2f} ms; 0.1 s after a swap {after:.2f} of it; loads {loads}"
    )
    return float(np.percentile(took[inside], 99) / steady), int(inside.sum())


def run_time_ms(placed: Placed) -> float:
    """Return what one run takes in this process."""
    session = Session(placed, threads=1)
    took = min(session.warm() for _ in range(5))
    session.close()
    return took


def rollbacks() -> dict[str, float]:
    """Hot and cold rollback."""
    with stage() as made:
        small = [models.release(made.store, models.small(n), f"{n}.0.0") for n in range(2)]
        pointer, answer = hot(made, small)
        made.client.unload(SLOT)
        big = [
            models.release(made.store, models.layers(22, 1024, rows=1, seed=n), f"9.{n}.0")
            for n in range(3)
        ]
        bare, cold = [], []
        for number in range(9):  # in turns, so that both see the same machine
            bare.append(bare_load_s(big[number % 3]))
            began, ended = made.swap(big[number % 3])
            cold.append((ended - began) / 1e6)
    print(f"  cold, seconds: bare {spread(bare)}, rollback {spread(cold)}")
    return {
        "rollback_pointer_ms": round(pointer, 4),
        "rollback_answer_ms": round(answer, 3),
        "rollback_cold_s": round(median(cold), 3),
        "rollback_cold_ratio": round(median(cold) / median(bare), 3),
    }


def spread(values: Sequence[float]) -> str:
    """Return median, least and most."""
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def hot(made: Stage, releases: list[Placed]) -> tuple[float, float]:
    body = request([1, 64])
    for placed in releases:
        made.swap(placed)
    pointers, answers = [], []
    with connect(made.socket) as one:
        plain = median(timed(lambda: ask(one, body)) for _ in range(100))
        for _ in range(100):
            began = now_us()
            made.client.restore(SLOT)
            pointers.append(now_us() - began)
            ask(one, body)
            answers.append(now_us() - began)
    return median(pointers) / 1000, (median(answers) - plain) / 1000


def timed(call: Callable[[], object]) -> int:
    began = now_us()
    call()
    return now_us() - began


def bare_load_s(placed: Placed) -> float:
    """Open and run the same files in a fresh process; imports and hashing not counted."""
    code = (
        "import sys,time,onnxruntime as o,numpy as n\n"
        "path,gold=sys.argv[1:]\nbegan=time.monotonic()\n"
        "options=o.SessionOptions(); options.intra_op_num_threads=1\n"
        "s=o.InferenceSession(path,options,providers=['CPUExecutionProvider'])\n"
        "x=n.load(gold)['in.x']\ns.run(None,{'x':x})\nprint(time.monotonic()-began)"
    )
    assert placed.golden
    arguments = [placed.files[0].path, placed.golden.path]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, check=True, text=True
    )
    return float(done.stdout)


def leak() -> dict[str, float]:
    """What 15 swaps leave in memory above the first load, in a fresh child."""
    with stage() as made:
        big = [
            models.release(made.store, models.layers(22, 1024, rows=1, seed=n), f"9.{n}.0")
            for n in range(3)
        ]
        made.swap(big[0])
        first = settled_kib(made)
        for number in range(1, 16):
            made.swap(big[number % 3])
            made.client.discard(SLOT, big[(number - 1) % 3].record.key)
        return {"leak_mib": round((settled_kib(made) - first) / 1024, 1)}


def settled_kib(made: Stage) -> int:
    """Resident KiB once the reaper is done."""
    lowest = made.client.statistics().rss_kib
    for _ in range(20):
        time.sleep(0.1)
        lowest = min(lowest, made.client.statistics().rss_kib)
    return lowest
