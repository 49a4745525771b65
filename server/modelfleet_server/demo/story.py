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
DEVICE_COLUMNS = (
    *("device", "variant", "whole>", "zstd>", "fetched>", "less>"),
    *("requests>", "failed>", "p50 / p99"),
)
GATE_COLUMNS = ("version", "gate says", "drop in accuracy, points>", "99 %>", "answers>")


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
        play.measured.seconds = round(time.monotonic() - began, 1)
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
    fetched = [device_row(one) for one in measured.devices]
    say(Table("The update to 1.1.0", DEVICE_COLUMNS, fetched))
    judged = [gate_row(one) for one in measured.gates]
    say(Table("The gate after the canaries", GATE_COLUMNS, judged))
    rows = [
        ("requests while models were swapped", f"{measured.requests}"),
        ("of these failed", f"{measured.failed_requests}"),
        ("altered file: found and reported", seconds(measured.found_s)),
        ("altered file: repaired", seconds(measured.repaired_s)),
        ("rollback of the whole fleet", seconds(measured.rollback_s)),
        ("all seven steps", seconds(measured.seconds)),
    ]
    say(Table("The whole job", ("what", "measured>"), rows))


def device_row(one: DeviceFigures) -> tuple[str, ...]:
    """Return a device's row under `DEVICE_COLUMNS`."""
    latency = DECLARED if one.declared else f"{one.p50_ms:.1f} / {one.p99_ms:.1f} ms"
    return (
        one.device,
        one.variant,
        kilobytes(one.full_bytes),
        kilobytes(one.zstd_bytes),
        kilobytes(one.update_bytes),
        f"{one.zstd_bytes / max(one.update_bytes, 1):.1f} x",
        f"{one.requests}",
        f"{one.failed}",
        latency,
    )


def gate_row(one: GateFigures) -> tuple[str, ...]:
    """Return a gate's row under `GATE_COLUMNS`."""
    interval = f"{points(one.low)} to {points(one.high)}"
    return (one.version, one.outcome, points(one.drop), interval, f"{one.samples}")


def _stay_open(play: Play) -> None:
    """Leave everything running until Ctrl-C."""
    play.say(Open(play.client.url, USER, play.password, str(play.stage.home)))
    try:
        while True:
            time.sleep(1)
            play.stage.check()
    except KeyboardInterrupt:
        return


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
