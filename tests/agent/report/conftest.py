from collections.abc import Callable
from pathlib import Path

import pytest

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.report.outbox import Outbox
from modelfleet_agent.settings.outbox import OutboxSettings
from modelfleet_manifests.keys import PrivateKey

OpenOutbox = Callable[..., Outbox]


@pytest.fixture
def me() -> Enrolment:
    return Enrolment(
        device="dev-1",
        enrolment="1" * 32,
        incarnation=1,
        fleet="2" * 64,
        server="http://127.0.0.1:1",
        mqtt_host="127.0.0.1",
        mqtt_port=1,
        token="secret",
    )


@pytest.fixture
def key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture
def open_outbox(tmp_path: Path, me: Enrolment, key: PrivateKey) -> OpenOutbox:
    def open_it(enrolment: Enrolment = me, budget: int = 1024) -> Outbox:
        limits = OutboxSettings(telemetry_kb=budget, reports_kb=64)
        return Outbox(tmp_path, enrolment, key, boot="3" * 32, budget=limits)

    return open_it
