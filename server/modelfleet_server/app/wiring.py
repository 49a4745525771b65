"""The one place where slices are plugged in. Add a line; nothing else knows them all.

* `ROUTERS` and `MOUNTS`: what answers HTTP.
* `make_parts`: long-lived objects that routes, handlers and services find by their type.
* `HANDLERS`: who takes in what arrives by MQTT.
* `SERVICES`: what works in the background, started in this order and stopped in reverse.

Tables need no line: `migrations.load_tables` finds every `tables.py`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from fastapi import APIRouter
from sqlmodel import Session
from starlette.types import ASGIApp

import modelfleet_server.audit.api
import modelfleet_server.blobs.api
import modelfleet_server.builds.api
import modelfleet_server.catalog.api
import modelfleet_server.compliance.api
import modelfleet_server.console.api
import modelfleet_server.console.login
import modelfleet_server.deltas.api
import modelfleet_server.devices.api
import modelfleet_server.devices.group_api
import modelfleet_server.evidence.api
import modelfleet_server.identity.api
import modelfleet_server.jobs.api
import modelfleet_server.reference.api
import modelfleet_server.rollouts.api
import modelfleet_server.telemetry.api
import modelfleet_server.trust.api
import modelfleet_server.trust.key_api
import modelfleet_server.trust.served
from modelfleet_manifests import topics
from modelfleet_server.app import health
from modelfleet_server.app.housekeeping import Housekeeping
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.bridge.message import Handler
from modelfleet_server.builds.profiles import load_profiles
from modelfleet_server.builds.worker import Builder, Stores
from modelfleet_server.builds.workshop import make_workshop
from modelfleet_server.catalog import service as catalog
from modelfleet_server.console.pages import static
from modelfleet_server.console.streams import Shots
from modelfleet_server.deltas import service as deltas
from modelfleet_server.deltas.domain import Budget
from modelfleet_server.deltas.planner import Planner
from modelfleet_server.devices.access import recognise_device
from modelfleet_server.devices.twins import TwinKeeper
from modelfleet_server.identity.domain import Throttle
from modelfleet_server.identity.service import authenticate
from modelfleet_server.jobs.engine import DAY_MS, Engine, Place
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.kit.access import Authenticators
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.parts import Parts
from modelfleet_server.reference.grading import Grader
from modelfleet_server.reference.service import Referee
from modelfleet_server.rollouts.engine import RolloutEngine
from modelfleet_server.settings import Settings
from modelfleet_server.telemetry.service import TelemetryTaker
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.proposals import Publisher
from modelfleet_server.trust.signer.remote import RemoteSigner

HOUR_MS = 3_600_000


class Service(Protocol):
    """Work in threads of its own, or a child process."""

    def start(self) -> None:
        """Begin; return when it runs. Raises `AppError` when it cannot."""

    def stop(self) -> None:
        """Finish what is in hand, within seconds, and return when nothing runs any more."""


class Duty(StrEnum):
    """What a server process does; one process does all by default."""

    API = "api"
    BRIDGE = "bridge"
    WORKER = "worker"
    ROLLOUTS = "rollouts"
    SIGNER = "signer"


class Job(NamedTuple):
    """A background service, and the duty of a process that runs it."""

    duty: Duty
    make: Callable[[Parts], Service]


ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    modelfleet_server.blobs.api.public,
    modelfleet_server.blobs.api.router,
    modelfleet_server.identity.api.router,
    modelfleet_server.audit.api.router,
    modelfleet_server.trust.served.public,
    modelfleet_server.trust.api.router,
    modelfleet_server.trust.key_api.router,
    modelfleet_server.catalog.api.public,
    modelfleet_server.catalog.api.router,
    modelfleet_server.jobs.api.router,
    modelfleet_server.builds.api.router,
    modelfleet_server.deltas.api.router,
    modelfleet_server.reference.api.router,
    modelfleet_server.devices.api.router,
    modelfleet_server.devices.group_api.router,
    modelfleet_server.telemetry.api.router,
    modelfleet_server.evidence.api.router,
    modelfleet_server.compliance.api.router,
    modelfleet_server.rollouts.api.router,
    modelfleet_server.console.login.router,
    modelfleet_server.console.api.router,
    modelfleet_server.console.api.streams,
)

MOUNTS: tuple[tuple[str, ASGIApp], ...] = (("/static", static),)
"""Paths below which another application answers, such as static files."""

HANDLERS: tuple[tuple[str, Callable[[Parts], Handler]], ...] = (
    (topics.ALL_REPORTS, lambda parts: parts.get(TwinKeeper).take_reports),
    (topics.ALL_PRESENCE, lambda parts: parts.get(TwinKeeper).take_presence),
    (topics.ALL_TELEMETRY, lambda parts: parts.get(TelemetryTaker).take),
)
"""Topic filter, and what makes its handler."""


def _make_jobs(parts: Parts) -> Engine:
    settings = parts.get(Settings)
    place = Place.of(parts.get(Database), settings.home)
    keep_ms = settings.keep_jobs_days * DAY_MS
    return Engine(place, parts.get(Kinds), workers=settings.workers, keep_ms=keep_ms)


def _make_kinds(parts: Parts, settings: Settings) -> Kinds:
    """Return what jobs there are, in every process: any may cancel one."""
    stores = Stores(parts.get(Database), parts.get(BlobStore), settings.scratch / "builds")
    kinds = Kinds()
    kinds.register(Builder(stores, profiles=load_profiles(settings.home / "profiles")).kind)
    budget = Budget(
        settings.delta_count, settings.delta_mb << 20, settings.delta_cpu_s * 1000
    )
    folder = settings.scratch / "deltas"
    planner = Planner(parts.get(Database), parts.get(BlobStore), folder, budget)
    kinds.register(planner.kind)
    return kinds


def _make_engine(parts: Parts) -> RolloutEngine:
    wait_ms = parts.get(Settings).delta_wait_s * 1000
    return RolloutEngine(parts.get(Database), parts.get(Director), wait_ms=wait_ms)


def _make_housekeeping(parts: Parts) -> Housekeeping:
    keep_ms = parts.get(Settings).delta_keep_hours * HOUR_MS
    blobs = parts.get(BlobStore)

    def sweep(session: Session, now: int) -> None:
        deltas.sweep(session, blobs, now_ms=now, keep_ms=keep_ms)

    return Housekeeping(parts.get(Database), parts.get(Director), [sweep])


SERVICES: tuple[Job, ...] = (
    Job(Duty.WORKER, _make_jobs),
    Job(Duty.ROLLOUTS, _make_engine),
    Job(Duty.ROLLOUTS, _make_housekeeping),
)
"""`Job(Duty.WORKER, make_worker)`, started in this order."""


def make_parts(settings: Settings) -> Parts:
    """Make what needs neither broker nor network."""
    parts = Parts()
    parts.put(settings)
    parts.put(Database(settings.database_url))
    blobs = BlobStore(settings.blobs_url, settings.scratch)
    parts.put(blobs)
    parts.put(make_workshop(blobs, load_profiles(settings.home / "profiles")))
    parts.put(_make_kinds(parts, settings))
    parts.put(Throttle())
    parts.put(Authenticators([authenticate, recognise_device]))
    parts.put(TelemetryTaker())
    parts.put(Shots())
    signer = RemoteSigner(settings.signer_socket)
    parts.put(signer)
    parts.put(Director(signer))
    referee = Referee(parts.get(Director), blobs, load_profiles(settings.home / "profiles"))
    parts.put(referee)
    parts.get(Kinds).register(Grader(parts.get(Database), blobs, referee).kind)
    parts.put(TwinKeeper(parts.get(Director)))
    parts.put(Publisher(signer, [catalog.on_closed, deltas.on_closed]))
    return parts
