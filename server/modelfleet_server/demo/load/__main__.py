"""The process: `python -m modelfleet_server.demo.load --slot S --rate N ... NAME=PORT...`.

Sends drifted digits to every endpoint, each at `--rate` requests a second, and the true
label of each answer after it, until SIGTERM.
"""

import argparse
import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modelfleet_server.demo.load.tally import (
    MAX_FAILURES,
    Count,
    Tally,
    Traffic,
    write_traffic,
)
from modelfleet_server.demo.load.wire import OK, Connection
from modelfleet_server.demo.material import read_live
from modelfleet_server.demo.traffic import drifted

WRITE_S = 0.25
DIGITS = 2
"""In one picture: more labels for the same number of requests."""
SHAPE = [DIGITS, 1, 8, 8]


class Shot(NamedTuple):
    """A picture of `DIGITS` digits: its bytes as a tensor, and which they are."""

    data: bytes
    labels: list[int]


class Asker:
    """Asks one device, one request after the other."""

    def __init__(self, name: str, port: int, slot: str, traffic: Traffic) -> None:
        self.name = name
        self._slot = slot
        self._connection = Connection(port)
        self._traffic = traffic
        self._tally = traffic.devices.setdefault(name, Tally())
        self._latencies: list[float] = []

    async def run(self, shots: Iterator[Shot], rate: float, lag_s: float) -> None:
        """Ask until cancelled. What comes too late is left out, never sent in a burst."""
        due = time.monotonic() + lag_s
        for shot in shots:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            due = max(due + 1 / rate, time.monotonic())
            await self._ask(shot)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def sum_up(self) -> None:
        """Work the latencies into the tally."""
        if self._latencies:
            p50, p99 = np.percentile(np.array(self._latencies), (50, 99)).tolist()
            self._tally.p50_ms, self._tally.p99_ms = round(p50, 2), round(p99, 2)

    async def _ask(self, shot: Shot) -> None:
        tally = self._tally
        tally.requests += 1
        number = f"{self.name}-{tally.requests}"
        head = json.dumps(
            {
                "id": number,
                "inputs": [
                    {
                        "name": "x",
                        "shape": SHAPE,
                        "datatype": "FP32",
                        "parameters": {"binary_data_size": len(shot.data)},
                    }
                ],
            }
        ).encode()
        began = time.perf_counter()
        try:
            path = f"/v2/models/{self._slot}/infer"
            answer = await self._connection.post(path, head + shot.data, len(head))
        except OSError as error:
            self._fail(f"{type(error).__name__}: {error}")
            return
        if answer.status != OK:
            self._fail(f"{answer.status}: {answer.body[:200].decode(errors='replace')}")
            return
        self._latencies.append((time.perf_counter() - began) * 1000)
        version = tally.last = str(json.loads(answer.body)["model_version"])
        count = tally.versions.setdefault(version, Count())
        count.answers += 1
        await self._label(number, shot.labels, count)

    async def _label(self, number: str, labels: list[int], count: Count) -> None:
        body = json.dumps({"id": number, "label": labels}).encode()
        try:
            answer = await self._connection.post("/v2/feedback", body)
        except OSError as error:
            self._tally.unlabelled += 1
            self._note(f"feedback: {type(error).__name__}: {error}")
            return
        if answer.status != OK:
            self._tally.unlabelled += 1
            self._note(f"feedback: {answer.status}: {answer.body[:200]!r}")
            return
        count.labelled += len(labels)
        count.hits += int(json.loads(answer.body)["hits"])

    def _fail(self, why: str) -> None:
        self._tally.failed += 1
        self._note(why)

    def _note(self, why: str) -> None:
        if len(self._traffic.failures) < MAX_FAILURES:
            self._traffic.failures.append(f"{time.strftime('%T')} {self.name}: {why}")


def make_shots(seed: int) -> Iterator[Shot]:
    """Yield pictures for ever, each round over all digits with another drift."""
    images, labels = read_live()
    rng = np.random.default_rng(seed)
    while True:
        seen = drifted(images, rng).astype("<f4")
        order = rng.permutation(len(seen))
        for chosen in order[: len(seen) // DIGITS * DIGITS].reshape(-1, DIGITS):
            yield Shot(seen[chosen].tobytes(), labels[chosen].tolist())


async def ask_all(options: argparse.Namespace) -> None:
    """Ask all devices until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    traffic = Traffic()
    named = [one.rpartition("=") for one in options.endpoint]
    askers = [Asker(name, int(port), options.slot, traffic) for name, _, port in named]
    tasks = [
        asyncio.create_task(
            one.run(make_shots(seed), options.rate, seed / options.rate / len(askers))
        )
        for seed, one in enumerate(askers)
    ]
    while not stopping.is_set():
        if broken := next((one for one in tasks if one.done()), None):
            broken.result()  # raises what was not foreseen
        for asker in askers:
            asker.sum_up()
        write_traffic(options.tally, traffic)
        try:
            await asyncio.wait_for(stopping.wait(), WRITE_S)
        except TimeoutError:
            continue
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for asker in askers:
        asker.close()
    write_traffic(options.tally, traffic)


def main() -> None:
    """Read the arguments and ask."""
    parser = argparse.ArgumentParser(prog="modelfleet_server.demo.load")
    parser.add_argument("--slot", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("endpoint", nargs="+")
    asyncio.run(ask_all(parser.parse_args()))


if __name__ == "__main__":
    main()
