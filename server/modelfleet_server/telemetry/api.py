"""Routes for telemetry."""

from fastapi import APIRouter
from pydantic import BaseModel

from modelfleet_server.devices.enrolment import find_device
from modelfleet_server.kit.access import ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep
from modelfleet_server.telemetry import service
from modelfleet_server.telemetry.domain import Counts, quantile_us

router = APIRouter(prefix="/api/v1", tags=["telemetry"])
HOUR_MS = 3_600_000


class CountsOut(BaseModel):
    """What one release did in one slot in the last hour; latencies in microseconds."""

    slot: str
    release: str
    requests: int
    errors: int
    labelled: int
    hits: int
    p50_us: int | None
    p99_us: int | None


class TelemetryOut(BaseModel):
    """The last hour of a device."""

    device: str
    since_ms: int
    counts: list[CountsOut]


@router.get("/devices/{device_id}/telemetry")
def get_telemetry(
    device_id: str, session: ReadDep, _actor: ViewerDep, now: NowDep
) -> TelemetryOut:
    """Show requests, errors and latency of a device in the last hour."""
    device = find_device(session, device_id)
    sums = service.sum_of_device(session, device.id, since_ms=now - HOUR_MS)
    counts = [_out(slot, one) for slot, them in sums.items() for one in them]
    return TelemetryOut(device=device.id, since_ms=now - HOUR_MS, counts=counts)


def _out(slot: str, one: Counts) -> CountsOut:
    return CountsOut(
        slot=slot,
        release=one.release,
        requests=one.requests,
        errors=one.errors,
        labelled=one.labelled,
        hits=one.hits,
        p50_us=quantile_us(one.buckets, 0.5),
        p99_us=quantile_us(one.buckets, 0.99),
    )
