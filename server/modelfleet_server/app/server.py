"""The process: everything started in order and stopped in reverse.

Order: home and its lock, address, signer, database, broker, bridge, background services,
HTTP.
The address is bound early (a taken port fails before anything changes) and answers last.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from modelfleet_server import migrations
from modelfleet_server.app.http import HttpThread, bind
from modelfleet_server.app.web import create_app
from modelfleet_server.app.wiring import HANDLERS, SERVICES, Duty, make_parts
from modelfleet_server.bridge.service import Bridge
from modelfleet_server.broker.address import Address, read_address
from modelfleet_server.broker.choice import open_broker
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.endpoints import Endpoints
from modelfleet_server.kit.errors import ConflictError, UnavailableError
from modelfleet_server.kit.parts import Parts
from modelfleet_server.settings import Settings
from modelfleet_server.trust.signer.child import SignerChild
from modelfleet_server.trust.signer.remote import RemoteSigner

log = logging.getLogger(__name__)


class Server:
    """A modelfleet server in this process.

    Args:
        settings: Where and how.
        duties: What of it runs here. The broker goes with the bridge.
    """

    def __init__(
        self, settings: Settings, duties: frozenset[Duty] = frozenset(Duty)
    ) -> None:
        self.settings = settings
        self.duties = duties
        self._stack = ExitStack()
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        """What the server is made of, once started."""
        if self._parts is None:
            raise LookupError("the server has not started")
        return self._parts

    @property
    def endpoints(self) -> Endpoints:
        """Where it can be reached, once started."""
        return self.parts.get(Endpoints)

    def start(self) -> None:
        """Start everything; when one thing fails, stop what had begun.

        Raises:
            ConflictError: Another server works in this home.
            UnavailableError: An address is taken, the broker away, the database busy.
        """
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """Stop everything, newest first. May be called twice."""
        self._stack.close()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Call from the main thread.

        Raises:
            AppError: As `start`.
        """
        stopping = threading.Event()

        def wish_to_stop(_signal: int, _frame: FrameType | None) -> None:
            stopping.set()

        before = {
            number: signal.signal(number, wish_to_stop)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self.start()
            here = Duty.API in self.duties
            log.info("serving %s", self.endpoints.url if here else sorted(self.duties))
            stopping.wait()
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, stack: ExitStack) -> None:
        settings = self.settings
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(_locked(settings.home, self.duties))
        listener = self._bind(stack)
        signer = self._start_signer(stack)
        self._parts = parts = make_parts(settings)
        stack.callback(parts.get(Database).close)
        stack.callback(parts.get(RemoteSigner).close)
        migrations.upgrade(parts.get(Database))
        mqtt = self._start_broker(stack)
        port = listener.getsockname()[1] if listener else settings.port
        url = settings.public_url or f"http://{settings.host}:{port}"
        parts.put(Endpoints(url.rstrip("/"), mqtt.host, mqtt.port))
        if signer is not None:
            signer.wait_ready()
            parts.put(signer)
        if Duty.BRIDGE in self.duties:
            self._start_bridge(stack, mqtt)
        for job in SERVICES:
            if job.duty in self.duties:
                service = job.make(parts)
                service.start()
                stack.callback(service.stop)
        if listener is not None:
            http = HttpThread(create_app(parts), listener)
            stack.callback(http.stop)
            http.start()
            stack.enter_context(_address_file(settings.address_file, self.endpoints))

    def _bind(self, stack: ExitStack) -> socket.socket | None:
        """Take the address that HTTP answers on; a process without the API has none."""
        if Duty.API not in self.duties:
            return None
        listener = bind(self.settings.host, self.settings.port)
        stack.callback(listener.close)
        return listener

    def _start_signer(self, stack: ExitStack) -> SignerChild | None:
        """Let the signer start while the rest does; it is asked when all is there."""
        if Duty.SIGNER not in self.duties:
            return None
        signer = SignerChild(self.settings.online_key, self.settings.signer_socket)
        stack.callback(signer.stop)
        signer.start()
        return signer

    def _start_broker(self, stack: ExitStack) -> Address:
        settings = self.settings
        if Duty.BRIDGE not in self.duties:
            outside = "://" in settings.broker  # devices are told of it by the API
            return read_address(settings.broker) if outside else Address("", 0)
        broker = open_broker(
            settings.broker, settings.broker_dir, port=settings.broker_port
        )
        stack.callback(broker.stop)
        return broker.start()

    def _start_bridge(self, stack: ExitStack, mqtt: Address) -> None:
        bridge = Bridge(self.parts.get(Database), mqtt)
        for topic_filter, make in HANDLERS:
            bridge.on(topic_filter, make(self.parts))
        self.parts.put(bridge)
        bridge.start()
        stack.callback(bridge.stop)


@contextmanager
def _locked(home: Path, duties: frozenset[Duty]) -> Iterator[None]:
    """Hold the home for each duty: two processes with the same one would fight.

    Workers do not: they share the jobs of one database.
    """
    with ExitStack() as stack:
        for duty in sorted(duties - {Duty.WORKER}):
            file = stack.enter_context((home / f".{duty}.lock").open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConflictError(
                    f"another server works in {home}",
                    "Stop it, or choose another home with --home.",
                    home=str(home),
                ) from None
        yield


@contextmanager
def _address_file(path: Path, endpoints: Endpoints) -> Iterator[None]:
    """Tell where the server is, in a file that is there only while it answers."""
    told = {
        "url": endpoints.url,
        "mqtt": {"host": endpoints.mqtt_host, "port": endpoints.mqtt_port},
        "pid": os.getpid(),
    }
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps(told), encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
