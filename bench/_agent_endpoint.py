"""What the local endpoint adds to a run, and what FastAPI would add in its place."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from bench import _agent_models as models
from bench._agent_client import ask, connect, request
from bench._agent_runtime import stage, timed
from modelfleet_agent.runtime.session import Session
from modelfleet_agent.store import Placed

START_S = 30


def endpoints() -> dict[str, float]:
    """µs that each adds to `session.run`: Unix socket, binary tensors, one connection."""
    cases = {
        "small": (models.small(0), [1, 64], 2000),
        "large": (models.image(), [1, 3, 320, 320], 300),
    }
    found = {}
    for name, (model, shape, count) in cases.items():
        ours, plain = added(model, shape, count)
        found[f"endpoint_{name}_us"] = round(ours, 1)
        found[f"fastapi_{name}_us"] = round(plain, 1)
    return found


def added(model: bytes, shape: list[int], count: int) -> tuple[float, float]:
    """µs above `session.run`, medians of `count`: of the endpoint, of FastAPI."""
    with stage(workers=1) as made:
        placed = models.release(made.store, model, "1.0.0")
        made.swap(placed)
        session = Session(placed, threads=1)
        x, body = np.zeros(shape, np.float32), request(shape)
        names = [one.name for one in session.outputs]
        with (
            fastapi(placed) as address,
            connect(made.socket) as ours,
            connect(address) as theirs,
        ):
            plain = lambda: session.run({"x": x}, names)  # noqa: E731
            ours_us = above(plain, lambda: ask(ours, body), count)
            theirs_us = above(plain, lambda: ask(theirs, body), count)
        session.close()
    return ours_us, theirs_us


def above(plain: Callable[[], object], other: Callable[[], object], count: int) -> float:
    """µs that `other` takes more, medians; in turns, so that both see the same machine."""
    took = [(timed(plain), timed(other)) for _ in range(count)]
    return median(b for _, b in took) - median(a for a, _ in took)


@contextmanager
def fastapi(placed: Placed) -> Iterator[str]:
    """Serve the same file by FastAPI and uvicorn; yield its socket."""
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "fastapi.sock")
        command = [sys.executable, "-m", "bench._agent_fastapi", placed.files[0].path]
        process = subprocess.Popen([*command, address])
        try:
            deadline = time.monotonic() + START_S
            while not listens(address) and time.monotonic() < deadline:
                assert process.poll() is None, "FastAPI did not start"
                time.sleep(0.05)
            yield address
        finally:
            process.kill()
            process.wait()


def listens(address: str) -> bool:
    try:
        connect(address).close()
    except OSError:
        return False
    return True
