"""Which interface leads somewhere, on this machine's own interfaces."""

import socket
import subprocess

import pytest

from modelfleet_agent.link.routes import (
    interface_of,
    interface_to,
    is_unmetered,
    matches,
)
from modelfleet_agent.settings.link import METERED


def test_the_loopback_leads_to_this_machine() -> None:
    assert interface_to("127.0.0.1", 80) == "lo"
    assert interface_to("localhost") == "lo"
    assert interface_of("127.9.9.9") == "lo"
    assert is_unmetered("127.0.0.1", 80)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_open_connection_names_its_interface(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with server, socket.create_connection(server.getsockname()[:2]) as one:
        assert interface_of(one.getsockname()[0]) == "lo"


def test_what_cannot_be_found_out_counts_as_metered() -> None:
    assert interface_to("a..b") == ""
    assert not is_unmetered("a..b")
    assert interface_of("192.0.2.77") == ""


@pytest.mark.parametrize(
    ("name", "fits"), [("wwan0", True), ("ppp1", True), ("eth0", False), ("wlan0", False)]
)
def test_cellular_modems_are_metered_by_their_names(name: str, fits: bool) -> None:
    assert matches(name, METERED) is fits
    assert is_unmetered("127.0.0.1", metered=["l?"]) is False


def test_every_address_of_this_machine_has_an_interface() -> None:
    try:
        said = subprocess.run(
            ["hostname", "-I"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("`hostname -I` does not tell this machine's addresses")
    names = {name for _, name in socket.if_nameindex()}
    assert {interface_of(one) for one in said} <= names
