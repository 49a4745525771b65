"""The pages, their streams, and the forms on them."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlmodel import func, select

from modelfleet_server.compliance.domain import Compliance
from modelfleet_server.console.device import DeviceView, device_view
from modelfleet_server.console.fleet import Ask, FleetView, chips, fleet_view
from modelfleet_server.console.jobs import JobsView, jobs_view
from modelfleet_server.console.models import WhichVersion, version_view, versions_view
from modelfleet_server.console.pages import PageRoute, render, see
from modelfleet_server.console.rollouts import undo_of
from modelfleet_server.console.streams import Shots, follow
from modelfleet_server.devices.enrolment import find_device
from modelfleet_server.devices.tables import Device
from modelfleet_server.jobs import service as jobs
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.kit.access import OperatorDep, ViewerDep
from modelfleet_server.kit.api import DatabaseDep, NowDep, ReadDep, WriteDep, given
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.errors import NotFoundError
from modelfleet_server.rollouts import service as rollouts
from modelfleet_server.rollouts.domain import Event
from modelfleet_server.trust.director import Director

router = APIRouter(route_class=PageRoute, include_in_schema=False)
streams = APIRouter(include_in_schema=False)
ShotsDep = Annotated[Shots, Depends(given(Shots))]
KindsDep = Annotated[Kinds, Depends(given(Kinds))]
DirectorDep = Annotated[Director, Depends(given(Director))]

LIVE_FLEET = "/live/fleet"
LIVE_DEVICE = "/live/devices/"
LIVE_JOBS = "/live/jobs"
AfterDep = Annotated[str, Query(max_length=512)]


def _ask(
    group: Annotated[str, Query(max_length=63)] = "",
    state: Annotated[Compliance | Literal[""], Query()] = "",
    after: Annotated[str, Query(max_length=63)] = "",
) -> Ask:
    return Ask(group, state or None, after)


AskDep = Annotated[Ask, Depends(_ask)]


@router.get("/")
def get_fleet(
    request: Request, session: ReadDep, actor: ViewerDep, ask: AskDep, now: NowDep
) -> Response:
    """Show the fleet: who complies, what waits for a person, rollouts, devices."""
    query = {"group": ask.group, "state": ask.state or "", "after": ask.after}
    enrolled = session.exec(select(func.count()).select_from(Device)).one()
    return render(
        request,
        "fleet.html",
        actor=actor,
        view=fleet_view(session, ask, now_ms=now),
        ask=ask,
        chips=chips(session, ask),
        enrolled=enrolled,
        live=f"{LIVE_FLEET}?{urlencode({key: one for key, one in query.items() if one})}",
    )


@router.get("/c")
def get_search(
    request: Request,
    session: ReadDep,
    actor: ViewerDep,
    device: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Ask for a device; what was typed or scanned leads to its page."""
    name = device.strip().lower()
    if not name:
        return render(request, "search.html", actor=actor, error="", device="")
    try:
        find_device(session, name)
    except NotFoundError:
        error = f"There is no device {name} here. Check the label, or enrol it."
        return render(
            request, "search.html", actor=actor, status=404, error=error, device=name
        )
    return see(f"/c/{quote(name, safe='')}")


@router.get("/c/{device_id}")
def get_device(
    device_id: str, request: Request, session: ReadDep, actor: ViewerDep, now: NowDep
) -> Response:
    """Show one device to whoever stands in front of it."""
    view = device_view(session, device_id, now_ms=now)
    live = LIVE_DEVICE + quote(device_id, safe="")
    return render(request, "device.html", actor=actor, view=view, live=live)


@router.get("/rollouts/{rollout_id}/undo")
def get_undo(
    rollout_id: str, request: Request, session: ReadDep, actor: OperatorDep
) -> Response:
    """Say what an undo would do, and ask once more."""
    undo = undo_of(session, rollouts.find_rollout(session, rollout_id))
    return render(request, "undo.html", actor=actor, undo=undo)


@router.post("/rollouts/{rollout_id}/moves")
def post_move(
    rollout_id: str,
    session: WriteDep,
    actor: OperatorDep,
    director: DirectorDep,
    now: NowDep,
    event: Annotated[Literal[Event.PAUSE, Event.RESUME, Event.UNDO], Form()],
) -> Response:
    """Pause, resume or undo a rollout; then show it."""
    rollout = rollouts.find_rollout(session, rollout_id)
    reason = f"{event} by {actor.name}"
    rollouts.move(session, director, rollout, event, actor, now_ms=now, reason=reason)
    return see(f"/#rollout-{rollout.id}")


@router.get("/jobs")
def get_jobs(
    request: Request, session: ReadDep, actor: ViewerDep, now: NowDep, after: AfterDep = ""
) -> Response:
    """Show what the server works at, what waits, and what ended how."""
    view = jobs_view(session, after, now_ms=now)
    query = f"?{urlencode({'after': after})}" if after else ""
    return render(
        request, "jobs.html", actor=actor, view=view, after=after, live=LIVE_JOBS + query
    )


@router.get("/models")
def get_models(
    request: Request, session: ReadDep, actor: ViewerDep, now: NowDep, after: AfterDep = ""
) -> Response:
    """List the versions of all models."""
    view = versions_view(session, after)
    return render(request, "models.html", actor=actor, view=view, after=after, now=now)


@router.get("/models/{namespace}/{name}/{version}")
def get_version(
    which: Annotated[WhichVersion, Depends()],
    request: Request,
    session: ReadDep,
    actor: ViewerDep,
) -> Response:
    """Show what was tried for a version, and what ships where."""
    view = version_view(session, which.model, which.version)
    return render(request, "version.html", actor=actor, view=view)


@router.post("/jobs/{job_id}/cancel")
def post_cancel(
    job_id: str, session: WriteDep, actor: OperatorDep, kinds: KindsDep, now: NowDep
) -> Response:
    """End a job that waits or runs; then show them all."""
    jobs.cancel(session, kinds, job_id, actor=str(actor), at_ms=now)
    return see("/jobs")


@streams.get(LIVE_FLEET, response_class=EventSourceResponse)
async def get_live_fleet(
    _actor: ViewerDep, database: DatabaseDep, shots: ShotsDep, ask: AskDep
) -> AsyncIterator[ServerSentEvent]:
    """Stream the fleet's page as data."""

    def make() -> FleetView:
        with database.read() as session:
            return fleet_view(session, ask, now_ms=now_ms())

    async for event in follow(lambda: shots.take(f"fleet {ask}", make)):
        yield event


@streams.get(LIVE_DEVICE + "{device_id}", response_class=EventSourceResponse)
async def get_live_device(
    device_id: str, _actor: ViewerDep, database: DatabaseDep, shots: ShotsDep
) -> AsyncIterator[ServerSentEvent]:
    """Stream a device's page as data."""

    def make() -> DeviceView:
        with database.read() as session:
            return device_view(session, device_id, now_ms=now_ms())

    async for event in follow(lambda: shots.take(f"device {device_id}", make)):
        yield event


@streams.get(LIVE_JOBS, response_class=EventSourceResponse)
async def get_live_jobs(
    _actor: ViewerDep, database: DatabaseDep, shots: ShotsDep, after: AfterDep = ""
) -> AsyncIterator[ServerSentEvent]:
    """Stream the page of jobs as data."""

    def make() -> JobsView:
        with database.read() as session:
            return jobs_view(session, after, now_ms=now_ms())

    async for event in follow(lambda: shots.take(f"jobs {after}", make)):
        yield event
