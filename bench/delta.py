"""The delta codec against general tools: bytes, CPU, peak memory, and the entropy bound.

    python -m bench.delta [--pairs DIR] [--only REGEX] [--codecs a,b] [--svg FILE]

DIR holds `pairs.json`: {"pairs": [{name, old, new, precision, change}]}. Each codec runs in
processes of its own, one to encode and one to apply, and what it applies is compared with
the new file. Tools that are not installed are left out and named. The last line is one JSON
object.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench._delta_bound import bound_bytes
from bench._delta_peers import CODECS, OURS
from bench._delta_picture import draw

TIMEOUT_S = 900
FAR = {"release", "released", "retrain", "unrelated"}
LOW = {"lowlr", "sgdlow"}
SMALL = {"head", "last2", "identical", "metadata", "renamed"}


def main() -> None:
    options = _options()
    folder = options.pairs.resolve()
    if not (folder / "pairs.json").exists():
        raise SystemExit(f"no pairs.json in {options.pairs}: give --pairs DIR")
    listed = json.loads((folder / "pairs.json").read_text())["pairs"]
    pairs = [pair for pair in listed if re.search(options.only, pair["name"])]
    names = [
        name for name in CODECS if not options.codecs or name in options.codecs.split(",")
    ]
    rows: dict[str, dict[str, Any]] = {}
    missing: set[str] = set()
    for pair in pairs:
        rows[pair["name"]] = _measure_pair(folder, pair, names, missing)
        _print_pair(pair["name"], rows[pair["name"]])
    baseline = _run("baseline", "-", "-", "-")["peak_kib"]
    summary = _summarize(pairs, rows)
    for group, facts in summary.items():
        print(f"{group:22} {facts}")
    absent = ", ".join(sorted(missing)) or "none"
    print(f"interpreter with numpy: {baseline} KiB; not installed: {absent}")
    if options.svg:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(draw(rows))
    print(
        json.dumps(
            {
                "baseline_kib": baseline,
                "groups": summary,
                "missing": sorted(missing),
                "pairs": rows,
            }
        )
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--only", default="", help="regular expression for names of pairs")
    parser.add_argument("--codecs", default="", help="names, comma-separated")
    parser.add_argument("--svg", type=Path, help="write the picture here")
    return parser.parse_args()


def _measure_pair(
    folder: Path, pair: dict[str, Any], names: list[str], missing: set[str]
) -> dict[str, Any]:
    old, new = folder / pair["old"], folder / pair["new"]
    row: dict[str, Any] = {
        "old_bytes": old.stat().st_size,
        "new_bytes": new.stat().st_size,
        "bound_bytes": round(bound_bytes(old.read_bytes(), new.read_bytes())),
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
    child = [sys.executable, "-m", "bench._delta_peers", name]
    command = [*child, *(str(argument) for argument in arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
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
    print(f"{name}: {row['new_bytes']} bytes, bound {row['bound_bytes']}", end="")
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


def _group_of(pair: dict[str, Any]) -> list[str]:
    if pair["change"] in FAR:
        return ["far"]
    if pair["precision"] in {"dyn8", "qdq8", "int8"}:
        return ["int8"]
    if pair["change"] in SMALL:
        return ["small"]
    return ["dense", "dense, low rate"] if pair["change"] in LOW else ["dense"]


def _summarize(
    pairs: list[dict[str, Any]], rows: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        for group in _group_of(pair):
            groups.setdefault(group, []).append(rows[pair["name"]])
    out: dict[str, dict[str, Any]] = {}
    for group, members in groups.items():
        ratios = [row["ratio"] for row in members if "ratio" in row]
        if not ratios:
            continue
        out[group] = {
            "pairs": len(ratios),
            "of_best_peer": round(_mean(ratios), 4),
            "worst": max(ratios),
            "of_bound": round(
                _mean(
                    [
                        row["codecs"][OURS]["bytes"] / max(row["bound_bytes"], 1)
                        for row in members
                    ]
                ),
                4,
            ),
        }
    return out


def _mean(values: list[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


if __name__ == "__main__":
    main()
