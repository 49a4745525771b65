"""What an agent opens before its parts are put together: link, server, trust, endpoint."""

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.clock import Clock
from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.link.fetch import Link
from modelfleet_agent.link.mirrors import Mirrors
from modelfleet_agent.link.permit import Permit
from modelfleet_agent.settings import AgentSettings, RuntimeSettings
from modelfleet_agent.supervisor.status import read_endpoint
from modelfleet_agent.trust.door import TrustDoor
from modelfleet_agent.update.policy import Rng
from modelfleet_agent.web import Site

log = logging.getLogger(__name__)

SOCKET = "endpoint.sock"
LONGEST_SOCKET = 100  # the kernel takes 107


def open_link(
    settings: AgentSettings,
    *,
    clock: Clock,
    rng: Rng,
    notice: Callable[[AgentError], None],
) -> Link:
    """Return what all downloads share; `notice` is told of a mirror that lies."""
    permit = Permit(settings.link, settings.dir, clock=clock, rng=rng)
    return Link(permit, Mirrors(settings.link.mirrors), notice)


def counting(permit: Permit, place: tuple[str, int | None]) -> Callable[[int], None]:
    """Return what counts bytes from or to `place`, host and port, that are no files."""
    return lambda count: permit.count(*place, count)


def open_site(settings: AgentSettings, enrolment: Enrolment, permit: Permit) -> Site:
    """Return the server, for all but files; nothing is sent."""
    server, token = enrolment.server, enrolment.token
    proxy = settings.link.proxy_for(server)
    place = Site(server, proxy=proxy).place
    return Site(server, token=token, proxy=proxy, count=counting(permit, place))


def open_door(settings: AgentSettings, enrolment: Enrolment, permit: Permit) -> TrustDoor:
    """Return the door; a damaged state is put aside, since what is on disk must serve.

    Nothing is installed before metadata was fetched and verified again, and revocations
    with it; a release that was stopped was taken off its slot when that was heard.
    """
    proxy = settings.link.proxy_for(enrolment.server)
    count = counting(permit, open_site(settings, enrolment, permit).place)
    try:
        return TrustDoor(settings.dir, enrolment, proxy=proxy, count=count)
    except RetryableError as error:
        log.error("MF_DAMAGED %s", error)  # noqa: TRY400 - it says all
        path = Path(str(error.data.get("path", "")))
        if error.code != "E_RECORD" or not path.is_file():
            raise
        fsio.rename(path, path.with_suffix(".damaged"))
        return TrustDoor(settings.dir, enrolment, proxy=proxy, count=count)


def endpoint_of(settings: AgentSettings) -> RuntimeSettings:
    """Return the runtime's settings with a port and a socket that outlive a restart."""
    runtime = settings.runtime
    path = runtime.socket or settings.dir.resolve() / SOCKET
    if runtime.socket is None and len(bytes(path)) > LONGEST_SOCKET:
        log.warning(
            "MF_ENDPOINT %s is too long for a socket: none is opened; see --socket", path
        )
        path = None  # type: ignore[assignment]
    if runtime.port != 0:
        return replace(runtime, socket=path)
    before = read_endpoint(settings.dir)
    return replace(
        runtime, socket=path, port=_free_port(before.http_port if before else None)
    )


def _free_port(wished: int | None) -> int:
    """Return `wished` if nobody listens there, otherwise another free port."""
    for port in (wished or 0, 0):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(one.getsockname()[1])
    return 0
