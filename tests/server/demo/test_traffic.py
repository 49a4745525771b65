"""The traffic of the demonstration against a real endpoint, and what it writes down."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from modelfleet_server.demo.load.__main__ import DIGITS, Asker, make_shots
from modelfleet_server.demo.load.tally import Tally, Traffic, read_traffic, write_traffic

Answer = Callable[[str, bytes], tuple[int, object]]


@asynccontextmanager
async def endpoint(answer: Answer) -> AsyncIterator[int]:
    """Serve HTTP/1.1 on a free port, by `answer`."""

    ends: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        while head := await _head(reader):
            lines = head.decode().split("\r\n")
            length = next(int(one.split(":")[1]) for one in lines if "Content-L" in one)
            body = await reader.readexactly(length)
            status, content = answer(lines[0].split(" ")[1], body)
            data = json.dumps(content).encode()
            start = f"HTTP/1.1 {status} OK\r\nContent-Length: {len(data)}\r\n\r\n"
            writer.write(start.encode() + data)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for one in ends:
            one.close()
            await one.wait_closed()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def ask(port: int, count: int) -> Traffic:
    traffic = Traffic()
    asker = Asker("cam-0", port, "digits", traffic)
    task = asyncio.ensure_future(asker.run(islice(make_shots(1), count), 1000.0, 0.0))
    await _done(task)
    asker.sum_up()
    asker.close()
    return traffic


async def _done(task: Awaitable[None]) -> None:
    async with asyncio.timeout(20):
        await task


async def test_answers_labels_and_hits_are_counted_by_the_version_that_answered() -> None:
    versions = iter(["1.0.0", "1.0.0", "1.1.0"])

    def answer(path: str, _body: bytes) -> tuple[int, object]:
        if path == "/v2/feedback":
            return 200, {"hits": 1}
        return 200, {"model_version": next(versions)}

    async with endpoint(answer) as port:
        traffic = await ask(port, 3)
    tally = traffic.devices["cam-0"]
    assert (tally.requests, tally.failed, tally.last) == (3, 0, "1.1.0")
    old, new = tally.versions["1.0.0"], tally.versions["1.1.0"]
    assert (old.answers, old.labelled, old.hits) == (2, 2 * DIGITS, 2)
    assert (new.answers, new.labelled, new.hits) == (1, DIGITS, 1)
    assert 0 < tally.p50_ms <= tally.p99_ms


async def test_a_refusal_and_a_dead_endpoint_are_failed_requests_with_their_reason() -> (
    None
):
    async with endpoint(lambda _path, _body: (503, {"error": "no model"})) as port:
        refused = await ask(port, 2)
    assert (refused.requests, refused.failed) == (2, 2)
    assert "503" in refused.failures[0]
    nobody = await ask(port, 1)  # the endpoint is gone
    assert nobody.failed == 1
    assert "Connect" in nobody.failures[0]


async def test_a_label_that_is_not_taken_is_no_failed_request() -> None:
    def answer(path: str, _body: bytes) -> tuple[int, object]:
        return (404, {}) if path == "/v2/feedback" else (200, {"model_version": "1.0.0"})

    async with endpoint(answer) as port:
        tally = (await ask(port, 1)).devices["cam-0"]
    assert (tally.failed, tally.unlabelled, tally.labelled) == (0, 1, 0)


def test_pictures_follow_their_seed_and_carry_all_their_labels() -> None:
    one, same, other = (list(islice(make_shots(seed), 200)) for seed in (1, 1, 2))
    assert one == same != other
    assert {len(shot.labels) for shot in one} == {DIGITS}
    pixels = np.frombuffer(one[0].data, "<f4")
    assert pixels.size == DIGITS * 64
    assert 0 <= pixels.min() < pixels.max() <= 1


def test_a_tally_survives_being_written_and_nothing_yet_is_no_traffic(
    tmp_path: Path,
) -> None:
    path = tmp_path / "traffic.json"
    assert read_traffic(path) == Traffic()
    traffic = Traffic(devices={"cam-0": Tally(requests=3, failed=1)}, failures=["why"])
    write_traffic(path, traffic)
    assert read_traffic(path) == traffic
    assert (traffic.requests, traffic.failed, traffic.labelled) == (3, 1, 0)
