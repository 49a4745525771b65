"""The door: a real child process does the work, the supervisor stays light."""

import subprocess
import sys
import threading

import msgspec
import pytest
from tests.support.solo import make_release
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.children import child_environment
from modelfleet_agent.trust.door import TrustDoor

HEAVY = {"tuf", "numpy", "onnxruntime", "requests", "urllib3", "asyncio"}
LIGHT = [
    *("web", "enrol", "trust.state", "trust.door", "trust.messages"),
    *("link.inbox", "link.fetch", "link.mqtt", "report.outbox"),
]


def test_the_supervisors_side_never_imports_tuf() -> None:
    imports = "; ".join(f"import modelfleet_agent.{module}" for module in LIGHT)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; print(*sys.modules)"],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "modelfleet_agent.trust.door" in loaded
    assert HEAVY.isdisjoint(loaded)
    assert {one for one in loaded if one.startswith("securesystemslib.")} <= {
        "securesystemslib.formats",
        "securesystemslib.exceptions",
    }


def test_a_child_refreshes_and_recalls(device: EnrolledDevice) -> None:
    ref = device.fleet.add_release(make_release(device.fleet.files, "1.0.0"))
    device.fleet.publish()
    door = device.door()
    assert door.load().listed == {}
    assert door.refresh([ref]).listed == {"m/demo/digits/1.0.0/release.json": ref.id}
    device.fleet.revoke(ref.id)
    assert door.apply_recalls(device.fleet.recalls()).blocked == [ref.id]
    assert door.view(device.fleet.now).recalls.blocked == {ref.id}
    assert device.door().load() == door.load()  # it survives a restart


def test_a_refresh_without_a_server_changes_nothing(
    device: EnrolledDevice,
) -> None:
    before = device.door().refresh([])
    nowhere = msgspec.structs.replace(device.me, server="http://127.0.0.1:1")
    door = TrustDoor(device.directory, nowhere)
    with pytest.raises(RetryableError) as caught:
        door.refresh([])
    assert caught.value.code == "E_UNREACHABLE"
    assert door.load() == before


def test_a_refresh_can_be_cancelled(device: EnrolledDevice) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(RetryableError) as caught:
        device.door().refresh([], cancel)
    assert caught.value.code == "E_CANCELLED"


def test_a_forged_recall_is_an_error_that_names_it(device: EnrolledDevice) -> None:
    door = device.door()
    door.refresh([])
    with pytest.raises(RefusedError) as caught:
        door.apply_recalls(b"{}")
    assert caught.value.code == "E_RECALLS"


def test_an_empty_recall_message_means_nothing(device: EnrolledDevice) -> None:
    door = device.door()
    assert door.apply_recalls(b"") == door.load()


def test_a_damaged_state_is_not_passed_over(device: EnrolledDevice) -> None:
    device.refresh()
    (device.directory / "trust" / "state.json").write_bytes(b"{")
    with pytest.raises(RetryableError) as caught:
        device.door()
    assert caught.value.code == "E_RECORD"
