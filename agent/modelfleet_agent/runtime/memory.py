"""Whether a model fits beside another one: what is free, and what it will take."""

import re
from pathlib import Path

from modelfleet_agent.store import Record

MIB = 1 << 20
SPARE = 64 * MIB  # for the system and for answers on their way
PER_BYTE = 2  # weights, and their copy packed for the processor
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


def available_bytes(root: Path = Path("/")) -> int:
    """Return what may still be taken: of the machine, or of the agent's control group.

    A machine that does not tell has room: the swap then shows whether it fits.
    """
    found = _AVAILABLE.search(_text(root / "proc/meminfo"))
    free = int(found[1]) * 1024 if found else 1 << 62
    group = root / "sys/fs/cgroup" / _text(root / "proc/self/cgroup").rpartition(":/")[2]
    most, used = _text(group / "memory.max"), _text(group / "memory.current")
    if most.isdigit() and used.isdigit():
        free = min(free, int(most) - int(used))
    return max(free, 0)


def needed_bytes(record: Record, *, measured_kib: int = 0) -> int:
    """Return what a session of `record` will take.

    Args:
        record: The release.
        measured_kib: The self-test's peak, where it ran: its own interpreter included.
    """
    weights = sum(entry.length for entry in record.files)
    if measured_kib:
        return max(measured_kib * 1024 - SPARE, weights)
    return weights * PER_BYTE + SPARE // 4


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # no such limit here
