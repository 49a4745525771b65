"""What this device is: probed, or declared by its operator.

The runtime's part comes from a child process (`runtime.probe.run`), since the supervisor
never imports ONNX Runtime.
"""

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import UsageError
from modelfleet_manifests.profiles import Facts

VERSION = "0.1.0"
MIB = 1 << 20

# Those that decide which kernels ONNX Runtime takes; all of them would fill a report.
CPU_FEATURES = frozenset(
    {
        *("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f"),
        *("avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
        *("neon", "vfpv4", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
    }
)
_CPU_LINE = re.compile(r"^(?:flags|Features)\s*:\s*(.*)$", re.MULTILINE)
_TEGRA = re.compile(r"R(\d+)\s*\(release\),\s*REVISION:\s*(\d+)(?:\.(\d+))?")
_MEMORY = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


class RuntimeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a child with ONNX Runtime found.

    Attributes:
        runtime: `onnxruntime <version>`; empty where it cannot be imported.
        providers: Execution providers that really loaded a model.
        opset: The highest opset that it loads.
    """

    runtime: str = ""
    providers: list[str] = []
    opset: int = 0


def detect(
    directory: Path,
    runtime: RuntimeFacts,
    *,
    declared: Mapping[str, object] | None = None,
    root: Path = Path("/"),
) -> Facts:
    """Return the facts of this device.

    Args:
        directory: The agent's directory, whose free space counts.
        runtime: From `runtime.probe.run`.
        declared: Facts that replace probed ones; any makes the whole `declared`.
        root: Where `proc`, `sys` and `etc` are.

    Raises:
        UsageError: `E_FACTS`: a declared fact is unknown or of the wrong type.
    """
    probed = Facts(
        arch=platform.machine(),
        cpu=_cpu(_text(root / "proc/cpuinfo")),
        soc=_text(root / "proc/device-tree/model").rstrip("\0\n"),
        jetson=_jetson(_text(root / "etc/nv_tegra_release")),
        memory_mb=_memory_mb(root),
        disk_free_mb=fsio.free_bytes(directory) // MIB,
        providers=list(runtime.providers),
        runtime=runtime.runtime,
        opset=runtime.opset,
        agent=VERSION,
    )
    return _declare(probed, declared) if declared else probed


def _declare(probed: Facts, declared: Mapping[str, object]) -> Facts:
    if unknown := declared.keys() - (set(Facts.__struct_fields__) - {"declared"}):
        known = ", ".join(sorted(set(Facts.__struct_fields__) - {"declared"}))
        what = f"declared facts {sorted(unknown)} are unknown"
        raise UsageError("E_FACTS", what, hint=f"known are {known}", facts=sorted(unknown))
    try:
        merged = msgspec.to_builtins(probed) | dict(declared) | {"declared": True}
        return msgspec.convert(merged, Facts)
    except msgspec.ValidationError as error:
        raise UsageError(
            "E_FACTS", f"a declared fact has the wrong type: {error}"
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # most devices lack most of these files


def _cpu(cpuinfo: str) -> list[str]:
    # big and little cores differ: only what all of them can may be relied on
    each = [set(line.split()) for line in _CPU_LINE.findall(cpuinfo)]
    return sorted(set.intersection(*each) & CPU_FEATURES) if each else []


def _jetson(release: str) -> str:
    match = _TEGRA.search(release)
    if not match:
        return ""
    major, minor, patch = match.groups()
    return f"R{major}.{minor}" + (f".{patch}" if patch and patch != "0" else "")


def _memory_mb(root: Path) -> int:
    match = _MEMORY.search(_text(root / "proc/meminfo"))
    total = int(match.group(1)) * 1024 if match else _physical()
    allowed = _text(root / "sys/fs/cgroup/memory.max").strip()
    return (min(total, int(allowed)) if allowed.isdigit() else total) // MIB


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
