"""What the agent costs, and what an update costs the requests that come meanwhile.

`python -m bench.agent [--runs N] [--swaps N] [--rows N] [--quick] [--only PART]`. The last
line is one JSON object. Ratios are of one run on one machine; tails pool at least 200
swaps; medians of the runs. `mlserver_ratio` is null, and a line says why, where MLServer
cannot be installed.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench import _agent_runtime as runtime
from bench._agent_endpoint import endpoints
from bench._agent_peer import against_mlserver
from bench._agent_whole import whole

KEYS = (
    *("failed_requests", "p99_ratio_half", "p99_ratio_full", "rollback_pointer_ms"),
    *("rollback_answer_ms", "rollback_cold_s", "rollback_cold_ratio", "supervisor_mib"),
    *("supervisor_import_ms", "supervisor_idle_pct", "leak_mib", "endpoint_small_us"),
    *("endpoint_large_us", "mlserver_ratio", "update_ratio"),
)
IDLE_S = 60.0


def medians(runs: int, measure: Callable[[], dict[str, Any]]) -> dict[str, float]:
    """Return the median of each figure over `runs` runs."""
    found = [measure() for _ in range(runs)]
    return {name: median(one[name] for one in found) for name in found[0]}


def tails(runs: int, swaps: int, rows: int, *, count: int, load: float) -> float:
    """Return the median ratio; print how many requests it rests on."""
    found = [runtime.p99_ratio(swaps, rows, count=count, load=load) for _ in range(runs)]
    requests = sum(number for _, number in found)
    ratios = [round(ratio, 2) for ratio, _ in found]
    print(f"  load {load:g}: n = {requests} requests in {runs * swaps} swaps: {ratios}")
    return round(median(ratio for ratio, _ in found), 3)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--swaps", type=int, default=40, help="per run, for the tails")
    parser.add_argument(
        "--rows", type=int, default=256, help="of a tail's input; 48: runs of about 2 ms"
    )
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--only", action="append", metavar="PART", help="such as `leak`")
    options = parser.parse_args()
    runs, swaps = (1, 200) if options.quick else (options.runs, options.swaps)
    figures: dict[str, Any] = dict.fromkeys(KEYS)
    parts: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("swaps", lambda: runtime.failed_requests(1000)),
        ("whole", lambda: whole(IDLE_S)),
        ("rollbacks", lambda: medians(runs, runtime.rollbacks)),
        ("leak", lambda: medians(runs, runtime.leak)),
        ("endpoint", endpoints),
        ("mlserver", against_mlserver),
        (
            "half",
            lambda: {"p99_ratio_half": tails(runs, swaps, options.rows, count=1, load=0.5)},
        ),
        (
            "full",
            lambda: {"p99_ratio_full": tails(runs, swaps, options.rows, count=2, load=1.0)},
        ),
    ]
    for name, part in parts:
        if options.only and name not in options.only:
            continue
        began = time.monotonic()
        found = part()
        took = time.monotonic() - began
        print(f"{name}: {json.dumps(found)} ({took:.0f} s)", flush=True)
        figures |= {key: value for key, value in found.items() if key in KEYS}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
