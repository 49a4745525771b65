"""From settings to a running supervisor, and back to nothing."""

import logging
import queue
import secrets
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from modelfleet_agent import facts
from modelfleet_agent.clock import now_ms
from modelfleet_agent.enrol import Enrolment, load_enrolment, load_report_key
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.link.fetch import Fetcher
from modelfleet_agent.link.inbox import Inbox
from modelfleet_agent.link.mqtt import Session
from modelfleet_agent.link.routes import is_unmetered
from modelfleet_agent.reference.standby import Standby
from modelfleet_agent.report.outbox import Outbox
from modelfleet_agent.runtime import probe
from modelfleet_agent.runtime.client import RuntimeClient, RuntimeExit
from modelfleet_agent.settings import AgentSettings
from modelfleet_agent.store import Record, Slots, Store
from modelfleet_agent.supervisor.desk import Desk
from modelfleet_agent.supervisor.history import History
from modelfleet_agent.supervisor.keeper import Keeper
from modelfleet_agent.supervisor.loop import (
    Events,
    Moved,
    Parts,
    Probed,
    Refreshed,
    Supervisor,
)
from modelfleet_agent.supervisor.notify import Notifier
from modelfleet_agent.supervisor.opening import (
    counting,
    endpoint_of,
    open_door,
    open_link,
    open_site,
)
from modelfleet_agent.supervisor.proving import Proof
from modelfleet_agent.supervisor.refresh import Refresher
from modelfleet_agent.supervisor.status import lock
from modelfleet_agent.supervisor.teller import Teller
from modelfleet_agent.supervisor.voice import Voice
from modelfleet_agent.supervisor.witness import Witness
from modelfleet_agent.update.deriving import Deriver
from modelfleet_agent.update.engine import Engine
from modelfleet_agent.update.policy import Fallback
from modelfleet_agent.update.work import Tools
from modelfleet_manifests.keys import PrivateKey

if TYPE_CHECKING:
    from modelfleet_agent.reference.evaluator import Evaluator

log = logging.getLogger(__name__)

MIB = 1 << 20
CLOSE_S = 10.0
_RANDOM = secrets.SystemRandom()


class Agent:
    """One supervisor, from its directory to its end."""

    def __init__(self, settings: AgentSettings) -> None:
        """Open what is on disk; nothing is started.

        Raises:
            UsageError: `E_NOT_ENROLLED`, or `E_RUNNING`: another agent runs here.
            RetryableError: The disk is in the way.
        """
        self.settings = settings
        self._stack = ExitStack()
        enrolment = load_enrolment(settings.dir)
        key = load_report_key(settings.dir)
        self._stack.enter_context(closing(lock(settings.dir)))
        self._events: Events = queue.SimpleQueue()
        self._link = open_link(
            settings,
            clock=self._now,
            rng=_RANDOM.random,
            notice=lambda error: self._notice("", error),
        )
        self._door = open_door(settings, enrolment, self._link.permit)
        session = Session(
            enrolment,
            self._events,
            proxy=settings.link.proxy_to(enrolment.mqtt_host),
            count=counting(self._link.permit, (enrolment.mqtt_host, enrolment.mqtt_port)),
        )
        outbox = Outbox(
            settings.dir,
            enrolment,
            key,
            boot=secrets.token_hex(16),
            budget=settings.outbox,
        )
        self._voice = Voice(settings, outbox, session, now_ms)
        self._tools = self._make_tools(enrolment)
        self._desk = self._make_desk(enrolment)
        witness = Witness(self._desk, interval_s=settings.verify_interval_s)
        self._refresher = Refresher(
            self._door,
            clock=self._door.now,
            rng=_RANDOM.random,
            on_done=lambda error: self._events.put(Refreshed(error)),
        )
        self._standby = Standby(
            lambda: self._make_evaluator(enrolment, key),
            every_s=settings.reference_interval_s,
        )
        self.supervisor = Supervisor(
            Parts(
                events=self._events,
                desk=self._desk,
                refresher=self._refresher,
                session=session,
                voice=self._voice,
                teller=Teller(
                    settings.dir, enrolment, self._desk, witness, self._voice, session
                ),
                witness=witness,
                notifier=Notifier(),
                history=History(settings.dir),
                proof=Proof(settings.dir, self._desk.keeper.is_whole, self._voice.complain),
                standby=self._standby,
            )
        )
        self._session = session

    def run(self) -> None:
        """Serve what is on disk, then obey what is heard, until `supervisor.stop`."""
        try:
            self._boot()
            threading.Thread(target=self._probe, name="facts", daemon=True).start()
            self.supervisor.run()
        finally:
            self._close()

    def _make_tools(self, enrolment: Enrolment) -> Tools:
        settings = self.settings
        store = Store(settings.dir)
        reserve = settings.disk_reserve_mb * MIB
        link = self._link
        place = open_site(settings, enrolment, link.permit).place
        return Tools(
            dir=settings.dir,
            store=store,
            slots=Slots(store),
            runtime=RuntimeClient(endpoint_of(settings), on_exit=self._died),
            fetcher=lambda: Fetcher(
                enrolment.server, enrolment.token, store, link=link, reserve=reserve
            ),
            clock=self._door.now,
            rng=_RANDOM.random,
            is_stopped=self._is_stopped,
            notice=self._notice,
            reserve=reserve,
            fallback=Fallback(settings.link.fallback),
            unmetered=lambda: is_unmetered(*place, metered=settings.link.metered),
            permit=link.permit,
            switch=settings.switch,
            given_deriver=Deriver(
                store,
                facts=lambda: self._desk.facts or facts.recall(settings.dir),
                prepares=settings.prepares,
            ),
        )

    def _make_evaluator(self, enrolment: Enrolment, key: PrivateKey) -> "Evaluator":
        from modelfleet_agent.reference.evaluator import Bench, Evaluator  # noqa: PLC0415
        from modelfleet_agent.reference.office import Office  # noqa: PLC0415

        server, token = enrolment.server, enrolment.token
        site = open_site(self.settings, enrolment, self._link.permit)
        return Evaluator(
            Bench(
                dir=self.settings.dir,
                office=Office(site, enrolment),
                key=key,
                trust=self._door.load,
                fetcher=lambda store: Fetcher(
                    server, token, store, link=self._link, reserve=self._tools.reserve
                ),
                clock=self._door.now,
                notice=lambda error: self._notice("", error),
            )
        )

    def _make_desk(self, enrolment: Enrolment) -> Desk:
        engines: dict[str, Engine] = {}
        keeper = Keeper(self._tools, engines, on_change=lambda: self._moved(""))
        desk = Desk(
            tools=self._tools,
            inbox=Inbox(self.settings.dir, enrolment, self._door.load),
            door=self._door,
            keeper=keeper,
            engines=engines,
            budget=self.settings.disk_budget_mb * MIB,
            on_move=self._moved,
        )
        remembered = (self.settings.dir / "state", self.settings.dir / "journal")
        names = {path.name for folder in remembered for path in folder.glob("[a-z0-9]*")}
        for slot in sorted({*self._tools.slots.names(), *names}):
            desk.open(slot)
        return desk

    def _boot(self) -> None:
        for error in self._door.mend():
            self._notice("", error)
        self._tools.store.recover()
        try:
            self._desk.keeper.boot()
        except RetryableError as error:  # its death was noticed, and it is started again
            log.error("MF_RUNTIME it does not start: %s", error)  # noqa: TRY400 - said all
            self._notice("", error)

    def _probe(self) -> None:
        declared = dict(self.settings.declared_facts)
        try:
            found = facts.detect(
                self.settings.dir, probe.run(self.settings.dir), declared=declared
            )
        except AgentError as error:
            log.error("MF_FACTS they cannot be found out: %s", error)  # noqa: TRY400
            self._notice("", error)
            found = facts.detect(self.settings.dir, facts.RuntimeFacts())
        self._events.put(Probed(found))

    def _died(self, ended: RuntimeExit) -> None:
        self._desk.keeper.died(ended)

    def _now(self) -> int:
        return self._door.now()

    def _moved(self, slot: str) -> None:
        self._events.put(Moved(slot))

    def _is_stopped(self, record: Record) -> bool:
        return self._door.is_stopped(record.subject)

    def _notice(self, slot: str, error: AgentError) -> None:
        self._voice.complain(error.code, f"{slot}: {error.what}" if slot else error.what)

    def _close(self) -> None:
        steps: list[Callable[[], object]] = [
            self._desk.keeper.close,
            self._session.stop,
            self._refresher.close,
            self._standby.close,
            *(lambda engine=one: engine.close(CLOSE_S) for one in self._engines),
            self._tools.runtime.stop,
            self._link.permit.settle,
            self._stack.close,
        ]
        for step in steps:
            try:
                step()
            except AgentError as error:
                log.warning("MF_STOPPING %s", error)

    @property
    def _engines(self) -> list[Engine]:
        return list(self._desk.engines.values())
