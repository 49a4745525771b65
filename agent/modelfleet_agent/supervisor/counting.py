"""From counters that only grow to batches: what was counted since the last batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from msgspec import UNSET

from modelfleet_agent.runtime.messages import ReleaseStatistics, Statistics
from modelfleet_manifests.report import SlotTelemetry

StepOf = Callable[[str, str], str | None]
"""Returns the step under which a release (`Record.key`) serves in a slot, where known."""


@dataclass
class Counting:
    """The counters at the end of the last batch. Used by one thread."""

    boot: str = ""
    seen: dict[tuple[str, str], ReleaseStatistics] = field(default_factory=dict)

    def take(
        self, counters: Statistics, step_of: StepOf
    ) -> Mapping[str, list[SlotTelemetry]]:
        """Return what was counted since the last call, by slot; empty where nothing was.

        A new child starts at zero: all that it counted is new.
        """
        if counters.boot != self.boot:
            self.boot, self.seen = counters.boot, {}
        batch: dict[str, list[SlotTelemetry]] = {}
        for row in counters.releases:
            place = (row.slot, row.key)
            counted = _difference(row, self.seen.get(place), step_of(row.slot, row.key))
            self.seen[place] = row
            if counted.requests or counted.labelled:
                batch.setdefault(row.slot, []).append(counted)
        return batch


def _difference(
    now: ReleaseStatistics, before: ReleaseStatistics | None, step: str | None
) -> SlotTelemetry:
    old = before.latency if before else [0] * len(now.latency)
    return SlotTelemetry(
        release=now.release,
        step=UNSET if step is None else step,
        requests=now.requests - (before.requests if before else 0),
        errors=now.errors - (before.errors if before else 0),
        latency_us=now.latency_sum_us - (before.latency_sum_us if before else 0),
        buckets=[new - was for new, was in zip(now.latency, old, strict=True)],
        labelled=now.labelled - (before.labelled if before else 0),
        hits=now.hits - (before.hits if before else 0),
    )
