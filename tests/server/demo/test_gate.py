"""The gate on what the demonstration's models really answer to its live traffic."""

from functools import cache
from itertools import islice

import numpy as np
import onnxruntime as ort
import pytest

from modelfleet_server.demo.load.__main__ import DIGITS, make_shots
from modelfleet_server.demo.material import unpacked
from modelfleet_server.rollouts.gate import (
    Evidence,
    Gate,
    Judgement,
    Outcome,
    Tally,
    judge_wave,
)

PICTURES = Gate().min_labelled // DIGITS
CANARIES, FLEET = 3, 6


@cache
def session(version: str) -> ort.InferenceSession:
    with unpacked(version) as files:
        return ort.InferenceSession(files.master.read_bytes())


def answer(version: str, device: int, *, pictures: int) -> Tally:
    """Let one device answer its own traffic, as the agent counts it."""
    shots = list(islice(make_shots(device), pictures))
    data = b"".join(shot.data for shot in shots)
    pixels = np.frombuffer(data, np.float32).reshape(-1, 1, 8, 8)
    (logits,) = session(version).run(None, {"x": pixels})
    labels = np.array([label for shot in shots for label in shot.labels])
    hits = int((logits.argmax(axis=1) == labels).sum())
    return Tally(f"cam-{device}", pictures, 0, len(labels), hits)


def judge(version: str, before: str, *, drift: int) -> Judgement:
    """Judge a canary wave in which each device has just the labels that the gate wants."""
    return judge_wave(
        Gate(),
        Evidence(
            candidate=[
                answer(version, drift + n, pictures=PICTURES) for n in range(CANARIES)
            ],
            incumbent=[
                answer(before, 100 + drift + n, pictures=2 * PICTURES) for n in range(FLEET)
            ],
            expected=CANARIES,
            running=CANARIES,
            failed=0,
            waited_ms=10_000,
        ),
    )


@pytest.mark.parametrize("drift", range(0, 30, 6))
def test_the_default_gate_stops_1_2_0_whatever_the_drift(drift: int) -> None:
    verdict = judge("1.2.0", "1.1.0", drift=drift)
    assert verdict.outcome is Outcome.BREACH
    assert verdict.low is not None
    assert verdict.low > 0.1


@pytest.mark.parametrize("drift", range(0, 30, 6))
def test_the_same_gate_lets_1_1_0_pass_whatever_the_drift(drift: int) -> None:
    verdict = judge("1.1.0", "1.0.0", drift=drift)
    assert verdict.outcome is Outcome.PASS, verdict.reason
