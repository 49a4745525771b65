"""What the traffic saw, written down for whoever started it."""

from pathlib import Path

import msgspec

MAX_FAILURES = 20


class Count(msgspec.Struct):
    """Answers of one version on one device.

    Attributes:
        answers: Requests that it answered.
        labelled: Digits in them whose true label was taken.
        hits: Those that it had read right.
    """

    answers: int = 0
    labelled: int = 0
    hits: int = 0


class Tally(msgspec.Struct):
    """One device.

    Attributes:
        requests: Sent, failed ones included.
        failed: Not answered, or not with 200.
        unlabelled: Labels that were not taken.
        versions: By the version that answered.
        last: The version that answered last.
        p50_ms: Median latency as the client saw it.
        p99_ms: Its 99th percentile.
    """

    requests: int = 0
    failed: int = 0
    unlabelled: int = 0
    versions: dict[str, Count] = {}
    last: str = ""
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def labelled(self) -> int:
        """Labels that were taken, over all versions."""
        return sum(one.labelled for one in self.versions.values())


class Traffic(msgspec.Struct):
    """All devices, and the first failures in words."""

    devices: dict[str, Tally] = {}
    failures: list[str] = []

    @property
    def requests(self) -> int:
        """Sent to all devices."""
        return sum(one.requests for one in self.devices.values())

    @property
    def failed(self) -> int:
        """Of all devices."""
        return sum(one.failed for one in self.devices.values())

    @property
    def labelled(self) -> int:
        """Of all devices."""
        return sum(one.labelled for one in self.devices.values())


def write_traffic(path: Path, traffic: Traffic) -> None:
    """Replace the file at once: a reader never sees half of it."""
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(traffic))
    draft.replace(path)


def read_traffic(path: Path) -> Traffic:
    """Return what was written last; nothing yet is no traffic."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Traffic)
    except FileNotFoundError:
        return Traffic()
