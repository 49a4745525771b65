"""Streams: what a page shows, as data, when it changes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
from tests.support.lines import make_line, operate, publish_releases, target
from tests.support.server import ServerUnderTest

from modelfleet_server.console.streams import EVERY_S, SHARE, Shots
from modelfleet_server.kit.access import Role


@dataclass(frozen=True)
class Number:
    """The smallest view there is."""

    at_ms: int
    value: int


def test_a_view_is_made_once_for_all_who_look() -> None:
    now, made = [0.0], [0]

    def make() -> Number:
        made[0] += 1
        return Number(made[0], 7)

    shots = Shots(lambda: now[0])
    first = [shots.take("a", make) for _ in range(50)]
    assert made == [1]
    now[0] += EVERY_S
    second = shots.take("a", make)
    assert made == [2]
    assert (second.text != first[0].text, second.mark == first[0].mark) == (True, True)


def test_a_slow_view_is_made_less_often() -> None:
    now = [0.0]

    def make() -> Number:
        now[0] += 2.0
        return Number(0, 0)

    shot = Shots(lambda: now[0]).take("a", make)
    assert shot.good_until == 2.0 * SHARE


def events(answer: httpx2.Response) -> Iterator[dict[str, object]]:
    """Yield the data of each event."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_stream_tells_what_a_report_changed(server: ServerUnderTest) -> None:
    publish_releases(server, "1.0.0")
    (device,) = make_line(server, 1)
    operate(server, "deployments", **target("1.0.0"))
    viewer = server.client(Role.VIEWER)
    with viewer.stream("GET", "/live/devices/cam-0") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        heard = events(answer)
        assert next(heard)["word"] == "unknown"
        device.follow()
        assert next(heard)["word"] == "compliant"


def test_a_stream_keeps_to_the_filters_of_its_page(server: ServerUnderTest) -> None:
    make_line(server, 2)
    viewer = server.client(Role.VIEWER)
    with viewer.stream("GET", "/live/fleet?state=unknown&after=cam-0") as answer:
        view = next(events(answer))
    assert view["total"] == "2 devices"
    devices = view["devices"]
    assert isinstance(devices, list)
    assert [one["key"] for one in devices] == ["cam-1"]


def test_strangers_hear_nothing(server: ServerUnderTest) -> None:
    for path in ("/live/fleet", "/live/devices/cam-0"):
        assert server.client().get(path).status_code == 401
