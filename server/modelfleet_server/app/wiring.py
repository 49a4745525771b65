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
from starlette.types import ASGIApp

import modelfleet_server.audit.api
import modelfleet_server.blobs.api
import modelfleet_server.identity.api
from modelfleet_server.app import health
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.bridge.message import Handler
from modelfleet_server.identity.domain import Throttle
from modelfleet_server.identity.service import authenticate
from modelfleet_server.kit.access import Authenticators
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.parts import Parts
from modelfleet_server.settings import Settings


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
)

MOUNTS: tuple[tuple[str, ASGIApp], ...] = ()
"""Paths below which another application answers, such as static files."""

HANDLERS: tuple[tuple[str, Callable[[Parts], Handler]], ...] = ()
"""Topic filter, and what makes its handler: `("mf/v1/d/+/report", make_report_handler)`."""

SERVICES: tuple[Job, ...] = ()
"""`Job(Duty.WORKER, make_worker)`, `Job(Duty.ROLLOUTS, make_loop)`."""


def make_parts(settings: Settings) -> Parts:
    """Make what needs neither broker nor network."""
    parts = Parts()
    parts.put(settings)
    parts.put(Database(settings.database_url))
    parts.put(BlobStore(settings.blobs_url, settings.scratch))
    parts.put(Throttle())
    parts.put(Authenticators([authenticate]))
    return parts
