"""The delta codec against general tools: bytes, CPU, peak memory, and the entropy bound.

    python -m bench.delta [--pairs DIR] [--only REGEX] [--codecs a,b] [--svg FILE] [--json]

DIR holds `pairs.json`: {"pairs": [{name, old, new, precision, change}]}, where `old` and
`new` are paths from DIR, `precision` is fp32, fp16, dyn8 or qdq8, and `change` is lowlr,
cont, head, retrain, release, identical, metadata or renamed. Each codec runs in processes
of its own, one to encode and one to apply, and what it applies is compared with the new
file. Tools that are not installed are left out and named. Speed is measured on large
pairs that are made for it. The last line is one JSON object; `--json` prints nothing
else.
"""

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench._delta_bound import bound_bytes
from bench._delta_large import make_pairs
from bench._delta_peers import CODECS, OURS
from bench._delta_picture import draw
from bench._delta_summary import judge, measure_speed, summarize

TIMEOUT_S = 900
RUNS = 3
"""Of a large pair, of which the quickest counts."""


def main() -> None:
    options = _options()
    folder = options.pairs.resolve()
    if not (folder / "pairs.json").exists():
        raise SystemExit(f"no pairs.json in {options.pairs}: give --pairs DIR")
    quiet = io.StringIO() if options.json else sys.stdout
    with contextlib.redirect_stdout(quiet):
        result = _run_all(options, folder)
    print(json.dumps(result))


def _run_all(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    listed = json.loads((folder / "pairs.json").read_text())["pairs"]
    pairs = [pair for pair in listed if re.search(options.only, pair["name"])]
    names = [
        name for name in CODECS if not options.codecs or name in options.codecs.split(",")
    ]
    rows: dict[str, dict[str, Any]] = {}
    missing: set[str] = set()
    for pair in pairs:
        row = _measure_pair(folder, pair, names, missing)
        old, new = ((folder / pair[side]).read_bytes() for side in ("old", "new"))
        row["bound_bytes"] = max(1, round(bound_bytes(old, new)))
        rows[pair["name"]] = row
        _print_pair(pair["name"], row)
    baseline = _run("baseline", "-", "-", "-")["peak_kib"]
    large = _measure_large() if options.speed else {"pairs": [], "rows": {}}
    groups = summarize(pairs, rows)
    speed = measure_speed(large["pairs"], rows | large["rows"], baseline)
    goals = judge(groups, speed)
    _print_summary(groups, goals)
    absent = ", ".join(sorted(missing)) or "none"
    print(f"interpreter with numpy: {baseline} KiB; not installed: {absent}")
    if options.svg:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(draw(rows))
    return {
        "baseline_kib": baseline,
        "groups": groups,
        "speed": speed,
        "goals": goals,
        "missing": sorted(missing),
        "pairs": rows,
        "large": large["rows"],
    }


def _measure_large() -> dict[str, Any]:
    """Measure our codec on large pairs: the quickest of some runs, as others disturb it."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pairs = make_pairs(folder)
        for pair in pairs:
            runs = [_measure_pair(folder, pair, [OURS], set()) for _ in range(RUNS)]
            row = runs[0]
            for name in ("encode_cpu_s", "apply_cpu_s"):
                row["codecs"][OURS][name] = min(one["codecs"][OURS][name] for one in runs)
            facts = row["codecs"][OURS]
            facts["apply_mb_s"] = round(row["new_bytes"] / 1e6 / facts["apply_cpu_s"], 1)
            rows[pair["name"]] = row
            _print_pair(pair["name"], row)
    return {"pairs": pairs, "rows": rows}


def _print_summary(groups: dict[str, Any], goals: dict[str, Any]) -> None:
    print("geometric means:  pairs  of best peer   worst  of bound  bound of best peer")
    for group, facts in groups.items():
        print(
            f"  {group:14} {facts['pairs']:6} {facts['of_best_peer']:13} {facts['worst']:7}"
            f" {facts['of_bound']:9} {facts['bound_of_best_peer']:19}"
        )
    print("no codec of this model of the residual goes below `bound of best peer`")
    for name, facts in goals.items():
        word = "met" if facts["met"] else "MISSED"
        print(f"  {name:26} {facts['measured']:10} goal {facts['goal']:8} {word}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--only", default="", help="regular expression for names of pairs")
    parser.add_argument("--codecs", default="", help="names, comma-separated")
    parser.add_argument("--svg", type=Path, help="write the picture here")
    parser.add_argument(
        "--no-speed", dest="speed", action="store_false", help="leave out the large pairs"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    return parser.parse_args()


def _measure_pair(
    folder: Path, pair: dict[str, Any], names: list[str], missing: set[str]
) -> dict[str, Any]:
    old, new = folder / pair["old"], folder / pair["new"]
    row: dict[str, Any] = {
        "old_bytes": old.stat().st_size,
        "new_bytes": new.stat().st_size,
        "codecs": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        patch, made = Path(scratch) / "patch", Path(scratch) / "made"
        for name in names:
            try:
                encode = _run(name, "encode", old, new, patch)
                apply = _run(name, "apply", old, patch, made)
            except MissingError:
                missing.add(name)
                continue
            except FailedError as error:
                row["codecs"][name] = {"error": str(error)}
                continue
            if made.read_bytes() != new.read_bytes():
                raise SystemExit(f"{name}: what it made of {pair['name']} differs")
            row["codecs"][name] = _facts(
                patch.stat().st_size, encode, apply, row["new_bytes"]
            )
    return _with_best(row)


def _facts(
    size: int, encode: dict[str, Any], apply: dict[str, Any], new_bytes: int
) -> dict[str, Any]:
    return {
        "bytes": size,
        "encode_cpu_s": encode["cpu_s"],
        "apply_cpu_s": apply["cpu_s"],
        "encode_kib": encode["peak_kib"],
        "apply_kib": apply["peak_kib"],
        "apply_mb_s": round(new_bytes / 1e6 / max(apply["cpu_s"], 1e-6), 1),
    }


def _with_best(row: dict[str, Any]) -> dict[str, Any]:
    sizes = {
        name: facts["bytes"]
        for name, facts in row["codecs"].items()
        if "bytes" in facts and name != OURS
    }
    if sizes:
        best = min(sizes, key=lambda name: sizes[name])
        row |= {"best_peer": best, "best_bytes": sizes[best]}
        if ours := row["codecs"].get(OURS):
            row["ratio"] = round(ours["bytes"] / sizes[best], 4)
    return row


class MissingError(Exception):
    """The codec is not installed here."""


class FailedError(Exception):
    """The codec does not take these files."""


def _run(name: str, *arguments: object) -> dict[str, Any]:
    """Run one step of a codec in a process of its own."""
    # as our children run: numpy's algebra otherwise spins on a second processor for a while
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    child = [sys.executable, "-m", "bench._delta_peers", name]
    command = [*child, *(str(argument) for argument in arguments)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f"longer than {TIMEOUT_S} s") from None
    if done.returncode == 3:
        raise MissingError(name)
    if done.returncode:
        raise FailedError((done.stderr.strip().splitlines() or ["failed"])[-1][:160])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print_pair(name: str, row: dict[str, Any]) -> None:
    bound = f", bound {row['bound_bytes']}" if "bound_bytes" in row else ""
    print(f"{name}: {row['new_bytes']} bytes{bound}", end="")
    print(f", ratio {row['ratio']} of {row['best_peer']}" if "ratio" in row else "")
    for codec, facts in row["codecs"].items():
        if "error" in facts:
            print(f"  {codec:16} {facts['error']}")
            continue
        share = 100 * facts["bytes"] / row["new_bytes"]
        print(
            f"  {codec:16} {facts['bytes']:>10} {share:7.3f} %"
            f"  encode {facts['encode_cpu_s']:7.3f} s {facts['encode_kib']:>8} KiB"
            f"  apply {facts['apply_cpu_s']:6.3f} s {facts['apply_kib']:>7} KiB"
            f" {facts['apply_mb_s']:>7} MB/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
