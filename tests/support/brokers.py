"""Real brokers for tests."""

import os
import signal
from pathlib import Path

from tests.support.system import require_mosquitto
from tests.support.waiting import eventually

from modelfleet_server.broker.child import ChildBroker
from modelfleet_server.broker.embedded import Embedded
from modelfleet_server.broker.mosquitto import Mosquitto
from modelfleet_server.broker.probe import SilentError, ask

KINDS = ("embedded", "mosquitto")


def make_broker(kind: str, folder: Path) -> ChildBroker:
    """Return a broker of `kind`, not started; skips where Mosquitto is missing."""
    recipe = Embedded() if kind == "embedded" else Mosquitto(require_mosquitto())
    return ChildBroker(recipe, folder)


def kill(broker: ChildBroker) -> None:
    """Kill the child with -9 and wait until its successor answers."""
    pid, before = broker.pid, broker.restarts
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: broker.restarts > before, "the broker is started again")
    address = broker.address
    assert address is not None

    def answers() -> bool:
        try:
            ask(address, timeout_s=1)
        except SilentError:
            return False
        return True

    eventually(answers, "the broker answers again")
