"""The supervisor stays light: what it imports brings neither numpy nor ONNX Runtime."""

import subprocess
import sys

from modelfleet_agent.runtime.children import child_environment
from modelfleet_agent.runtime.messages import BOUNDS_US
from modelfleet_manifests.report import LATENCY_BOUNDS_US

SUPERVISOR = [
    *("errors", "clock", "fsio", "facts", "settings", "store"),
    *("runtime", "runtime.client", "runtime.limits", "runtime.messages"),
    *("runtime.selftest", "runtime.patch", "runtime.probe"),
]
HEAVY = {"numpy", "onnxruntime", "httptools", "onnx", "asyncio"}


def test_the_supervisors_side_is_light() -> None:
    imports = ", ".join(f"modelfleet_agent.{module}" for module in SUPERVISOR)
    code = f"import sys, {imports}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert HEAVY.isdisjoint(done.stdout.split())


def test_device_and_server_count_latencies_in_the_same_buckets() -> None:
    assert BOUNDS_US == LATENCY_BOUNDS_US
