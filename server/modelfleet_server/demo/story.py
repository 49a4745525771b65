"""The main job from beginning to end, and the table of what it measured."""

import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from modelfleet_server.demo.measured import DeviceFigures, GateFigures, Measured
from modelfleet_server.demo.play import USER, Play
from modelfleet_server.demo.stage import Stage
from modelfleet_server.demo.steps.aftermath import comply, go_back
from modelfleet_server.demo.steps.opening import open_fleet, open_server
from modelfleet_server.demo.steps.releases import begin
from modelfleet_server.demo.steps.rollouts import stop_bad, update
from modelfleet_server.demo.telling import Open, Say, Table, kilobytes, points, seconds

STEPS = (
    ("A server, from nothing", open_server),
    ("Six devices of three kinds", open_fleet),
    ("Release 1.0.0: built per device, signed, deployed", begin),
    ("Release 1.1.0: in waves, as deltas, under load", update),
    ("Release 1.2.0: better in the lab, worse in the field", stop_bad),
    ("Compliance, and a file that was altered", comply),
    ("Back to 1.0.0 by one command", go_back),
)
DECLARED = "runs on this CPU"
BYTES = ("device", "variant", "whole>", "zstd>", "fetched>", "less>")
REQUESTS = ("device", "profile", "requests>", "failed>", "p50 / p99")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How to show it.

    Attributes:
        home: Where everything goes, and stays; None for a temporary directory.
        keep: Leave it running until Ctrl-C once the job is done.
    """

    home: Path | None = None
    keep: bool = False


def run(options: DemoOptions, say: Say) -> Measured:
    """Show the main job with real processes, and clean up, however it ends.

    Args:
        options: How.
        say: Takes every line as it comes.

    Raises:
        PromiseError: Something did not go as promised.
        ConflictError: The home is not empty.
    """
    began = time.monotonic()
    with _ended_by_sigterm(), Stage(options.home) as stage:
        play = Play(stage, say, password=secrets.token_urlsafe(12))
        for number, (title, act) in enumerate(STEPS, 1):
            with play.step(number, title):
                act(play)
        _count_traffic(play)
        play.measured.seconds = round(time.monotonic() - began, 2)
        _tell(play.measured, say)
        if options.keep:
            _stay_open(play)
    return play.measured


def _count_traffic(play: Play) -> None:
    traffic = play.check_traffic()
    measured = play.measured
    measured.requests, measured.failed_requests = traffic.requests, traffic.failed
    measured.labelled = traffic.labelled
    for figures in measured.devices:
        tally = traffic.devices[figures.device]
        figures.requests, figures.failed = tally.requests, tally.failed
        figures.p50_ms, figures.p99_ms = tally.p50_ms, tally.p99_ms


def _tell(measured: Measured, say: Say) -> None:
    devices = measured.devices
    say(Table("What the update to 1.1.0 cost", BYTES, [bytes_row(one) for one in devices]))
    say(Table("What applications saw", REQUESTS, [request_row(one) for one in devices]))
    rows = [
        ("requests in all", f"{measured.requests}"),
        ("requests that failed", f"{measured.failed_requests}"),
        *(gate_row(one) for one in measured.gates),
        ("altered file: found", seconds(measured.found_s)),
        ("altered file: repaired", seconds(measured.repaired_s)),
        ("rollback of the whole fleet", seconds(measured.rollback_s)),
        ("all seven steps", seconds(measured.seconds)),
    ]
    say(Table("The whole job", ("what", "measured"), rows))


def bytes_row(one: DeviceFigures) -> tuple[str, ...]:
    """Return a device's row under `BYTES`."""
    return (
        one.device,
        one.variant,
        kilobytes(one.full_bytes),
        kilobytes(one.zstd_bytes),
        kilobytes(one.update_bytes),
        f"{one.zstd_bytes / max(one.update_bytes, 1):.1f} x",
    )


def request_row(one: DeviceFigures) -> tuple[str, ...]:
    """Return a device's row under `REQUESTS`; a declared one shows no latency."""
    latency = DECLARED if one.declared else f"{one.p50_ms:.1f} / {one.p99_ms:.1f} ms"
    return (one.device, one.profile, f"{one.requests}", f"{one.failed}", latency)


def gate_row(one: GateFigures) -> tuple[str, str]:
    """Return what a gate said, with its numbers."""
    change = f"{points(one.drop)} points ({points(one.high)} to {points(one.low)})"
    return (
        f"gate on {one.version}",
        f"{one.outcome}: accuracy {change}, n={one.samples}",
    )


def _stay_open(play: Play) -> None:
    """Leave everything running until Ctrl-C."""
    play.say(Open(play.client.url, USER, play.password, str(play.stage.home)))
    try:
        while True:
            time.sleep(1)
            play.stage.check()
    except KeyboardInterrupt:
        play.did("Everything is being ended.")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that nothing stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
