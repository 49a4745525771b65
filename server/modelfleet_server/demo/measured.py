"""What the demonstration measured: its last line, as one JSON object."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class DeviceFigures:
    """One device.

    Attributes:
        declared: Its facts were declared: it runs on this machine's CPU all the same.
        full_bytes: Of its variant of the update.
        zstd_bytes: Of the same file, compressed by zstd at its strongest usual level.
        update_bytes: What it really fetched for the update.
        method: `delta` or `full`.
    """

    device: str
    profile: str
    declared: bool
    variant: str = ""
    full_bytes: int = 0
    zstd_bytes: int = 0
    update_bytes: int = 0
    method: str = ""
    requests: int = 0
    failed: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


@dataclass
class GateFigures:
    """A gate's numbers for one version, accuracies as shares.

    Attributes:
        drop: Of accuracy against what ran before.
        low: Lower end of its 99 % interval.
        high: Upper end.
        samples: Labelled answers of the canaries.
        reached: Devices that ever answered with this version.
    """

    version: str
    outcome: str
    drop: float | None
    low: float | None
    high: float | None
    samples: int
    reached: int


@dataclass
class Measured:
    """Everything.

    Attributes:
        steps_s: Seconds per step, by its number.
        rollback_s: From the command to the last device's report.
        found_s: From an altered file to the server's knowing.
        repaired_s: From there to the device's report that it is good again.
    """

    seconds: float = 0.0
    steps_s: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    labelled: int = 0
    failed_requests: int = 0
    devices: list[DeviceFigures] = field(default_factory=list)
    gates: list[GateFigures] = field(default_factory=list)
    found_s: float = 0.0
    repaired_s: float = 0.0
    rollback_s: float = 0.0

    @property
    def update_bytes(self) -> int:
        """What all devices fetched for the update."""
        return sum(one.update_bytes for one in self.devices)

    @property
    def zstd_bytes(self) -> int:
        """What they would have fetched as compressed files."""
        return sum(one.zstd_bytes for one in self.devices)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object."""
        totals = {"update_bytes": self.update_bytes, "zstd_bytes": self.zstd_bytes}
        return asdict(self) | totals
