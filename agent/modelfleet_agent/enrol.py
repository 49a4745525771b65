"""Enrolment: a claim token becomes an identity of this device in one fleet."""

from dataclasses import dataclass
from pathlib import Path

from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.profiles import Facts


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who this device is, and where its server is (`enrolment.json`).

    Attributes:
        device: Its id.
        enrolment: Id of this enrolment, 32 hexadecimal digits.
        incarnation: How many times the device id was enrolled.
        fleet: SHA-256 of the fleet's first root.
        server: Base URL.
        mqtt_host: Broker.
        mqtt_port: Its port.
        token: Bearer token of the device for HTTP; the MQTT password.
    """

    device: str
    enrolment: str
    incarnation: int
    fleet: str
    server: str
    mqtt_host: str
    mqtt_port: int
    token: str


def enrol(
    server: str,
    claim: str,
    directory: Path,
    facts: Facts,
    *,
    force: bool = False,
    timeout_s: float = 30,
) -> Enrolment:
    """Exchange a claim token for an identity; writes keys, root and `enrolment.json`.

    Killed at any instant, the same call may be made again: the key is kept, and the server
    gives the same answer to the same token and key.

    Raises:
        UsageError: `E_URL`, `E_ENROLLED` (without `force`), or what the server objects to,
            with its code.
        RetryableError: `E_UNREACHABLE`, or the server cannot answer now.
        RefusedError: `E_ANSWER`: the answer is not one of a fleet's server.
    """
    raise NotImplementedError


def load_enrolment(directory: Path) -> Enrolment:
    """Return who this device is.

    Raises:
        UsageError: `E_NOT_ENROLLED`.
    """
    raise NotImplementedError


def load_report_key(directory: Path) -> PrivateKey:
    """Return the key that signs reports; raises as `load_enrolment`."""
    raise NotImplementedError
