"""What this device is: probed, or declared by its operator.

The runtime's part comes from a child process (`runtime.probe.run`), since the supervisor
never imports ONNX Runtime.
"""

import hashlib
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
SATURATES = "u8s8_saturates"
NAME = "facts.json"
_CPU_KEYS = frozenset(
    {
        *("vendor_id", "model name", "cpu family", "model", "stepping", "flags"),
        *("CPU implementer", "CPU part", "CPU variant", "CPU revision", "Features"),
        *("Hardware", "Model"),
    }
)
_CUDA = ("usr/local/cuda/lib64", "usr/local/cuda/targets/*/lib", "usr/lib/*-linux-gnu")
_LIBRARIES = {
    "tensorrt": ("usr/lib/*-linux-gnu/libnvinfer.so.*", "usr/lib/libnvinfer.so.*"),
    "cuda": tuple(f"{folder}/libcudart.so.*" for folder in _CUDA),
    "cudnn": ("usr/lib/*-linux-gnu/libcudnn.so.*", "usr/local/cuda/lib64/libcudnn.so.*"),
}
_CPU_LINE = re.compile(r"^(?:flags|Features)\s*:\s*(.*)$", re.MULTILINE)
_TEGRA = re.compile(r"R(\d+)\s*\(release\),\s*REVISION:\s*(\d+)(?:\.(\d+))?")
_MEMORY = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


class RuntimeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a child with ONNX Runtime found.

    Attributes:
        runtime: `onnxruntime <version>`; empty where it cannot be imported.
        providers: Execution providers that really loaded a model.
        opset: The highest opset that it loads.
        saturates: It clips sums of products of bytes at 16 bits; None where it cannot be
            asked.
        compute: Compute capability of the first GPU, "" where there is none.
    """

    runtime: str = ""
    providers: list[str] = []
    opset: int = 0
    saturates: bool | None = None
    compute: str = ""


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
        cpu=_cpu(_text(root / "proc/cpuinfo"), saturates=runtime.saturates),
        soc=_text(root / "proc/device-tree/model").rstrip("\0\n"),
        jetson=_jetson(_text(root / "etc/nv_tegra_release")),
        memory_mb=_memory_mb(root),
        disk_free_mb=fsio.free_bytes(directory) // MIB,
        providers=list(runtime.providers),
        runtime=runtime.runtime,
        opset=runtime.opset,
        libraries=_libraries(root),
        compute=runtime.compute,
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


def _cpu(cpuinfo: str, *, saturates: bool | None) -> list[str]:
    # big and little cores differ: only what all of them can may be relied on
    each = [set(line.split()) for line in _CPU_LINE.findall(cpuinfo)]
    found = set.intersection(*each) & CPU_FEATURES if each else set()
    return sorted(found | ({SATURATES} if saturates else set()))


def cpu_model(root: Path = Path("/")) -> str:
    """Return what tells processors apart: names, parts and features of all cores."""
    lines = _text(root / "proc/cpuinfo").splitlines()
    telling = {line for line in lines if line.partition(":")[0].strip() in _CPU_KEYS}
    return hashlib.sha256("\n".join(sorted(telling)).encode()).hexdigest()


def differences(before: Facts, after: Facts) -> list[str]:
    """Return what is otherwise, in words; free space is not told, it always changes."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    told = []
    for name in Facts.__struct_fields__:
        if name == "disk_free_mb" or old[name] == new[name]:
            continue
        if isinstance(new[name], list):
            words = [f"+{one}" for one in new[name] if one not in old[name]]
            words += [f"-{one}" for one in old[name] if one not in new[name]]
            told.append(f"{name}: {', '.join(words) or 'another order'}")
        else:
            told.append(f"{name}: {old[name]!r} -> {new[name]!r}")
    return told


def remember(directory: Path, facts: Facts) -> list[str]:
    """Keep the facts; return how they differ from those of the last boot, in words.

    Raises:
        RetryableError: The disk is in the way; they are not kept.
    """
    before = recall(directory)
    if before != facts:
        fsio.write_atomic(directory / NAME, msgspec.json.encode(facts))
    return differences(before, facts) if before else []


def recall(directory: Path) -> Facts | None:
    """Return the facts of the last boot; None where none are readable."""
    try:
        return msgspec.json.decode((directory / NAME).read_bytes(), type=Facts)
    except (OSError, msgspec.MsgspecError):
        return None


def _libraries(root: Path) -> list[str]:
    """Return accelerators' libraries with the versions that their files' names carry."""
    found = []
    for name, patterns in _LIBRARIES.items():
        files = (path for pattern in patterns for path in root.glob(pattern))
        versions = [_numbers(path.name.partition(".so.")[2]) for path in files]
        if best := max(versions, default=()):
            found.append(f"{name} {'.'.join(map(str, best))}")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


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
