"""What a technician would look at, one after the other: good or bad, and what to do."""

import http.client
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.clock import now_ms
from modelfleet_agent.enrol import Enrolment, load_enrolment
from modelfleet_agent.errors import AgentError, HeldError, RetryableError, UsageError
from modelfleet_agent.journal import Pages
from modelfleet_agent.link import tunnel
from modelfleet_agent.link.permit import Permit
from modelfleet_agent.link.routes import interface_to, matches
from modelfleet_agent.runtime import probe
from modelfleet_agent.settings.file import NAME, FileSettings, read_settings
from modelfleet_agent.settings.link import LinkSettings
from modelfleet_agent.store import Slots, Store
from modelfleet_agent.supervisor.status import is_running, read_endpoint
from modelfleet_agent.update import engine, state
from modelfleet_agent.web import Site

TIMEOUT_S = 5.0
SKEW_MS = 300_000
LEAST_FREE = 256 << 20
OK_STATUS = 200


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: A word.
        ok: Nothing has to be done.
        what: What was found.
        hint: What to do, where something has to be done.
    """

    name: str
    ok: bool
    what: str
    hint: str = ""


def examine(directory: Path) -> Iterator[Finding]:
    """Yield what is found; looks only, and changes nothing.

    Raises:
        UsageError: `E_NOT_ENROLLED`: there is nothing to look at.
    """
    me = load_enrolment(directory)
    yield Finding("enrolment", ok=True, what=f"{me.device} of the fleet {me.fleet[:12]}")
    try:
        settings = read_settings(directory)
    except UsageError as error:
        yield _bad("settings", error.what, error.hint)
        settings = FileSettings()
    else:
        yield Finding("settings", ok=True, what=f"{directory / NAME} is sound or absent")
    looks: list[Callable[[], Finding]] = [
        lambda: _agent(directory),
        lambda: _private(directory),
        lambda: _space(directory),
        lambda: _server(me, settings.link),
        lambda: _link(directory, me, settings.link),
        lambda: _broker(me, settings.link),
        _runtime,
        lambda: _endpoint(directory),
        lambda: _memories(directory),
    ]
    for look in looks:
        yield look()
    yield from _files(directory)


def _bad(name: str, what: str, hint: str) -> Finding:
    return Finding(name, ok=False, what=what, hint=hint)


def _agent(directory: Path) -> Finding:
    if is_running(directory):
        return Finding("agent", ok=True, what="runs")
    return _bad("agent", "does not run", "start it: modelfleet-agent run")


def _private(directory: Path) -> Finding:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        hint = f"chmod 700 {directory}"
        return _bad("directory", f"{directory} is open to others", hint)
    return Finding("directory", ok=True, what=f"{directory} is private")


def _space(directory: Path) -> Finding:
    free = fsio.free_bytes(directory)
    what = f"{free >> 20:,} MiB free"
    hint = "" if free >= LEAST_FREE else "free some space: updates need it"
    return Finding("disk", ok=free >= LEAST_FREE, what=what, hint=hint)


def _server(me: Enrolment, link: LinkSettings) -> Finding:
    proxy = link.proxy_for(me.server)
    site = Site(me.server, token=me.token, timeout_s=TIMEOUT_S, proxy=proxy)
    try:
        with site.exchange("GET", "/tuf/metadata/timestamp.json") as response:
            status, date = response.status, response.headers.get("Date", "")
            response.read()
    except RetryableError as error:
        hint = "check the network; what is on disk goes on serving"
        return _bad("server", error.what, hint)
    finally:
        site.close()
    if status != OK_STATUS:
        return _bad("server", f"{me.server} answers {status}", "ask the operator")
    return _clock(me, date)


def _link(directory: Path, me: Enrolment, link: LinkSettings) -> Finding:
    """Say which way files come, and what the operator's rules make of it now."""
    permit = Permit(link, directory)
    place = Site(me.server, proxy=link.proxy_for(me.server)).place
    name = interface_to(*place)
    metered = "metered" if matches(name, link.metered) or not name else "not metered"
    left = permit.left.bytes
    told = "" if left is None else f"; {left >> 20:,} MiB of the byte budget are left"
    try:
        permit.open(*place)
    except HeldError as error:
        return _bad("link", error.what, "it goes on by itself; see agent.toml")
    return Finding("link", ok=True, what=f"files come over {name}, {metered}{told}")


def _clock(me: Enrolment, date: str) -> Finding:
    try:
        skew = now_ms() - int(parsedate_to_datetime(date).timestamp() * 1000)
    except (TypeError, ValueError):
        return Finding("server", ok=True, what=f"{me.server} answers")
    if abs(skew) > SKEW_MS:
        what = f"this clock is {skew / 1000:+,.0f} s off the server's"
        return _bad("clock", what, "set it, or let it be set over the network")
    return Finding("server", ok=True, what=f"{me.server} answers; the clocks agree")


def _broker(me: Enrolment, link: LinkSettings) -> Finding:
    where, proxy = f"{me.mqtt_host}:{me.mqtt_port}", link.proxy_to(me.mqtt_host)
    try:
        tunnel.connect(proxy, me.mqtt_host, me.mqtt_port, timeout_s=TIMEOUT_S).close()
    except OSError as error:
        what = f"{where}: {error.strerror or error}"
        return _bad("broker", what, "check the network, the firewall and the proxy")
    return Finding("broker", ok=True, what=f"{where} takes connections")


def _runtime() -> Finding:
    found = probe.run()
    if not found.runtime:
        hint = "install onnxruntime for this machine"
        return _bad("runtime", "ONNX Runtime does not import", hint)
    what = f"{found.runtime}, opset {found.opset}, {', '.join(found.providers)}"
    return Finding("runtime", ok=True, what=what)


def _endpoint(directory: Path) -> Finding:
    told = read_endpoint(directory)
    if told is None or told.http_port is None:
        return Finding("endpoint", ok=True, what="no port is open")
    one = http.client.HTTPConnection("127.0.0.1", told.http_port, timeout=TIMEOUT_S)
    try:
        one.request("GET", "/v2/health/live")
        status = one.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        what = f"port {told.http_port} does not answer: {error}"
        return _bad("endpoint", what, "see the log of the agent")
    finally:
        one.close()
    what = f"port {told.http_port} answers {status}"
    return Finding("endpoint", ok=status == OK_STATUS, what=what)


def _memories(directory: Path) -> Finding:
    pages = [
        Pages(path, size=size)
        for folder, size in (("journal", engine.PAGE), ("state", state.PAGE))
        for path in sorted((directory / folder).glob("[a-z0-9]*"))
    ]
    bad = [str(one.path.relative_to(directory)) for one in pages if one.damaged]
    if bad:
        hint = "the agent goes on with what is sound; watch the medium"
        return _bad("memory", f"damaged pages in {', '.join(bad)}", hint)
    return Finding("memory", ok=True, what=f"{len(pages)} files are sound")


def _files(directory: Path) -> Iterator[Finding]:
    if not os.access(directory / "slots", os.R_OK):
        return
    store = Store(directory)
    slots = Slots(store)
    for slot in slots.names():
        try:
            record = slots.current(slot)
        except AgentError as error:
            yield _bad(slot, error.what, error.hint)
            continue
        if record is None:
            continue
        bad = [file.name for file in record.wanted if not store.verify(file.digest)]
        what = f"{record.model} {record.version}: "
        what += f"altered: {', '.join(bad)}" if bad else "every file is as signed"
        hint = "the agent fetches it again; watch the medium" if bad else ""
        yield Finding(slot, ok=not bad, what=what, hint=hint)
