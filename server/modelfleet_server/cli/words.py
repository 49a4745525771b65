"""Numbers and times as people read them."""

import time

KIB = 1024.0
SECOND_MS, MINUTE_S, HOUR_S, DAY_S = 1000, 60, 3600, 86_400


def size(count: float | None) -> str:
    """Return bytes in the unit that suits them: `12.3 KiB`."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= KIB
    return f"{count:.1f} GiB"


def moment(at_ms: int | None) -> str:
    """Return a time in UTC: `2026-11-23 14:05:09`; `-` for none."""
    if not at_ms:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_ms / SECOND_MS))


def ago(at_ms: int | None, now_ms: int) -> str:
    """Return how long ago something was: `12 s ago`; `never` for none."""
    if not at_ms:
        return "never"
    seconds = max(now_ms - at_ms, 0) // SECOND_MS
    for unit, length in (("d", DAY_S), ("h", HOUR_S), ("min", MINUTE_S)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def milliseconds(count_us: int | None) -> str:
    """Return microseconds as milliseconds: `1.25 ms`."""
    return "-" if count_us is None else f"{count_us / 1000:.2f} ms"


def labels(them: dict[str, str]) -> str:
    """Return labels as they are written on the command line: `site=a,line=2`."""
    return ",".join(f"{key}={value}" for key, value in sorted(them.items()))
