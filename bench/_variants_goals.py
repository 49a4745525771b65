"""What issue and profiles ask of the variants that ship, and whether it is so."""

import platform
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from modelfleet_agent.facts import detect
from modelfleet_agent.runtime import probe
from modelfleet_manifests.profiles import matching_profiles
from modelfleet_server.builds.recipes import plan_for

Row = dict[str, Any]
TOTAL_S = 900
RELEASE_S = 60
SLOWER = 1.0
"""A variant's share of the time of fp32 that it must not be above."""


@cache
def profiles_here() -> list[str]:
    """Return the profiles that fit this machine, as an agent would tell it."""
    found = probe.run()
    with tempfile.TemporaryDirectory() as folder:
        return matching_profiles(detect(Path(folder), found))


def judge(rows: list[Row], missing: dict[str, str], release_s: float | None) -> Row:
    """Return each goal: its limit, the worst figure, whether it is met, and who misses it.

    Args:
        rows: One per model and profile.
        missing: Models that could not be had, and why.
        release_s: Seconds that the digits took for all profiles; None: not measured.
    """
    shipped = [row for row in rows if row["variant"]]
    here = profiles_here()
    measured = [row for row in shipped if row["profile"] in here]
    whole = [row for row in shipped if row["precision"].startswith("int")]
    wanted = [row for row in whole if plan_for(row["profile"]).prove.emulated]
    goals = {
        "left_out": _goal(0, [(len(missing), name) for name in missing]),
        "nothing_ships": _goal(0, [(1, _name(row)) for row in rows if not row["variant"]]),
        "drop_over_budget": _goal(0, [(_over(row, [row["accuracy_drop"]]), _name(row))
                                      for row in shipped]),
        "emulated_drop_over_budget": _goal(0, [
            (_over(row, row["emulated_drop"].values()), _name(row)) for row in wanted]),
        "not_emulated": _goal(0, [(1, f"{_name(row)}: {'; '.join(row['unproven'])}")
                                  for row in wanted if row["unproven"]]),
        "latency_ratio_here": _goal(SLOWER, [(row["latency_ratio"], _name(row))
                                             for row in measured]),
    }  # fmt: skip
    if release_s is not None:
        goals["digits_release_s"] = _goal(RELEASE_S, [(release_s, platform.machine())])
    return goals


def total(seconds: float) -> Row:
    """Return the goal for how long all of it took."""
    return _goal(TOTAL_S, [(seconds, "")])


def tell(goals: Row) -> str:
    """Return a line per goal."""
    return "\n".join(
        f"{'met   ' if one['met'] else 'MISSED'} {name}: {one['measured']} (at most "
        f"{one['goal']}) {'; '.join(one['by'])}"
        for name, one in goals.items()
    )


def _goal(limit: float, figures: list[tuple[float, str]]) -> Row:
    worst = max((figure for figure, _ in figures), default=0)
    by = [name for figure, name in figures if figure > limit]
    return {"goal": limit, "measured": worst, "met": not by, "by": by}


def _over(row: Row, drops: Any) -> float:  # noqa: ANN401 any numbers
    """Return by how much the largest loss is above the profile's budget, at least 0."""
    budget = float(plan_for(row["profile"]).objective.accuracy_drop)
    return round(max([0.0, *(float(drop) - budget for drop in drops)]), 4)


def _name(row: Row) -> str:
    return f"{row['model']} {row['profile']}"
