"""What a run of the delta benchmark says: means per kind of change, and the goals."""

import math
from typing import Any

from bench._delta_peers import OURS

Row = dict[str, Any]

FAR = {"release", "released", "retrain", "unrelated"}
LOW = {"lowlr", "sgdlow"}
SMALL = {"head", "last2"}
SAME = {"identical", "metadata", "renamed"}
INT8 = {"dyn8", "qdq8", "int8"}
HDIFF = ("hdiff_zstd19", "hdiff_lzma9")
_MEMORY_KIB = 16 << 10
# name of a goal: (what must be below or above it, the limit)
_AT_MOST = {
    "dense_of_best_peer": 0.77,
    "dense_of_bound": 1.04,
    "low_rate_of_best_peer": 0.45,
    "int8_of_best_peer": 0.65,
    "int8_worst": 1.0,
    "far_of_best_peer": 0.92,
    "far_worst": 1.01,
    "apply_kib_over_baseline": _MEMORY_KIB,
    "encode_s_per_90_mb": 3.0,
    "encode_of_hdiffpatch": 0.2,
}
_AT_LEAST = {"apply_mb_s_fp32": 100.0, "apply_mb_s_fp16": 100.0, "apply_mb_s_int8": 40.0}


def groups_of(pair: Row) -> list[str]:
    """Return the lines of the table that a pair belongs to."""
    if pair["change"] in SAME:
        return ["same"]
    if pair["change"] in FAR:
        return ["far"]
    if pair["precision"] in INT8:
        return ["int8"]
    if pair["change"] in SMALL:
        return ["small"]
    return ["dense", "low_rate"] if pair["change"] in LOW else ["dense"]


def summarize(pairs: list[Row], rows: dict[str, Row]) -> dict[str, Row]:
    """Return per group the geometric means against the best peer and the bound."""
    groups: dict[str, list[Row]] = {}
    for pair in pairs:
        for group in groups_of(pair):
            groups.setdefault(group, []).append(rows[pair["name"]])
    out: dict[str, Row] = {}
    for group, members in groups.items():
        known = [row for row in members if "ratio" in row]
        if known:
            out[group] = {
                "pairs": len(known),
                "of_best_peer": _mean([row["ratio"] for row in known]),
                "worst": max(row["ratio"] for row in known),
                "of_bound": _mean([_ours(row) / row["bound_bytes"] for row in known]),
                "bound_of_best_peer": _mean(
                    [row["bound_bytes"] / row["best_bytes"] for row in known]
                ),
            }
    return out


def measure_speed(large: list[Row], rows: dict[str, Row], baseline_kib: int) -> Row:
    """Return CPU and memory: of large pairs, and of encoding beside HDiffPatch.

    Args:
        large: Pairs on which speed is measured.
        rows: Results by name, of these and of the pairs with peers.
        baseline_kib: Peak of an interpreter with numpy.
    """
    measured = [(pair, rows[pair["name"]]["codecs"][OURS]) for pair in large]
    speed: Row = {}
    for kind in ("fp32", "fp16", "int8"):
        found = [
            facts["apply_mb_s"]
            for pair, facts in measured
            if kind
            in (pair["precision"], *(("int8",) if pair["precision"] in INT8 else ()))
        ]
        if found:
            speed[f"apply_mb_s_{kind}"] = min(found)
    ours = [row["codecs"][OURS] for row in rows.values() if OURS in row["codecs"]]
    if ours:
        most = max(one["apply_kib"] for one in ours)
        speed["apply_kib_over_baseline"] = most - baseline_kib
    if measured:
        speed["encode_s_per_90_mb"] = max(
            facts["encode_cpu_s"] * 90e6 / rows[pair["name"]]["new_bytes"]
            for pair, facts in measured
        )
        speed["encode_memory_of_old"] = max(
            (facts["encode_kib"] - baseline_kib) * 1024 / rows[pair["name"]]["old_bytes"]
            for pair, facts in measured
        )
    shares = [share for row in rows.values() if (share := _of_hdiffpatch(row))]
    if shares:
        speed["encode_of_hdiffpatch"] = _mean(shares)
    return {name: round(value, 3) for name, value in speed.items()}


def judge(groups: dict[str, Row], speed: Row) -> dict[str, Row]:
    """Return each goal that was measured: its limit, the figure, and whether it is met."""
    figures = dict(speed)
    for group, facts in groups.items():
        figures |= {f"{group}_{name}": value for name, value in facts.items()}
    out: dict[str, Row] = {}
    for sign, limits in ((1, _AT_MOST), (-1, _AT_LEAST)):
        for name, limit in limits.items():
            if name in figures:
                met = sign * figures[name] <= sign * limit
                out[name] = {"goal": limit, "measured": figures[name], "met": met}
    return out


def _of_hdiffpatch(row: Row) -> float | None:
    """Return our CPU of encoding as a share of the quicker HDiffPatch."""
    theirs = [
        float(row["codecs"][name]["encode_cpu_s"])
        for name in HDIFF
        if "encode_cpu_s" in row["codecs"].get(name, {})
    ]
    if not theirs or OURS not in row["codecs"]:
        return None
    return float(row["codecs"][OURS]["encode_cpu_s"]) / max(min(theirs), 1e-3)


def _ours(row: Row) -> float:
    return float(row["codecs"][OURS]["bytes"])


def _mean(values: list[float]) -> float:
    logs = [math.log(max(value, 1e-9)) for value in values]
    return round(math.exp(sum(logs) / len(logs)), 4)
