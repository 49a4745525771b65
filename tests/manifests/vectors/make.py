"""Write the golden vectors; a test checks that they are what this writes."""

import base64
import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from modelfleet_manifests.assignment import ByHold, ByPin, ByRemove
from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.deployment import Paused, Spread
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import write
from modelfleet_manifests.envelope import seal
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.recalls import Tombstone, parse_range
from modelfleet_manifests.timetoken import seal_token, write_token
from modelfleet_manifests.topics import deployment_topic, device_topic
from tests.support.documents import (
    DEVICE,
    ENROLMENT,
    FLEET,
    GROUP,
    assignment_of,
    deployment_of,
    evaluation_of,
    ref_of,
    release_of,
    step_of,
)

HERE = Path(__file__).parent
DIRECTOR = PrivateKey(b"\x01" * 32)
OTHER = PrivateKey(b"\x02" * 32)
A_TOPIC = device_topic(DEVICE, "assignment")
G_TOPIC = deployment_topic(GROUP)
E_TOPIC = device_topic(DEVICE, "evaluation")
V1, V2 = release_of("1.0.0"), release_of("1.1.0", rollback_to=["1.0.0"])


def good() -> dict[str, dict[str, Any]]:
    spread = Spread(from_="0" * 16, start=1000, end=61_000)
    steps = [step_of(V2, 2, to="8" + "0" * 15, begin=spread), step_of(V1, 1)]
    bodies = {
        "assignment-by-group": ("assignment", A_TOPIC, assignment_of()),
        "assignment-hold": ("assignment", A_TOPIC, assignment_of({"detector": ByHold()})),
        "assignment-remove": (
            "assignment",
            A_TOPIC,
            assignment_of({"detector": ByRemove()}),
        ),
        "assignment-pin": (
            "assignment",
            A_TOPIC,
            assignment_of({"detector": ByPin(release=ref_of(V1))}, labels={"line": "3"}),
        ),
        "assignment-answer": (
            "assignment",
            A_TOPIC,
            replace(assignment_of(), echo="e" * 32),
        ),
        "deployment-all": ("deployment", G_TOPIC, deployment_of(step_of(V1, 1))),
        "deployment-spread": ("deployment", G_TOPIC, deployment_of(*steps)),
        "deployment-paused": (
            "deployment",
            G_TOPIC,
            deployment_of(step_of(V2, 2, begin=Paused()), step_of(V1, 1)),
        ),
        "deployment-empty": ("deployment", G_TOPIC, deployment_of()),
        "evaluation": ("evaluation", E_TOPIC, evaluation_of()),
    }
    return {
        name: {
            **_case(kind, topic, seal(kind, write(body), [DIRECTOR])),
            "payload_sha256": sha256(write(body)),
        }
        for name, (kind, topic, body) in bodies.items()
    }


TOKEN = "0123456789abcdef" * 2
"""The nonce that a device sent."""


def trust() -> dict[str, dict[str, Any]]:
    """Return time tokens and tombstones with what a device makes of them."""
    fine = seal_token(write_token(FLEET, TOKEN, 1_800_000_000_000), [DIRECTOR])
    other = seal_token(write_token(FLEET, "f" * 32, 1_800_000_000_000), [DIRECTOR])
    fleet = seal_token(write_token("0" * 64, TOKEN, 1_800_000_000_000), [DIRECTOR])
    thief = seal_token(write_token(FLEET, TOKEN, 1_800_000_000_000), [OTHER])
    tokens = [
        {"envelope": fine.decode(), "time": 1_800_000_000_000},
        {"envelope": other.decode(), "error": "E_ADDRESS"},
        {"envelope": fleet.decode(), "error": "E_ADDRESS"},
        {"envelope": thief.decode(), "error": "E_SIGNATURE"},
        {"envelope": _sealed(b"{}").decode(), "error": "E_FORMAT"},
    ]
    ranges = [
        _range("demo/digits@>=1.0.0,<1.2.0", ["1.0.0", "1.2.0-rc.1"], ["1.2.0", "0.9.9"]),
        _range("demo/digits@<=1.2.0", ["0.0.0-0", "1.2.0"], ["1.2.1-0", "1.2.1"]),
        _range("demo/digits@>1.2.0-rc.1", ["1.2.0-rc.1.0", "1.2.0"], ["1.2.0-rc.1"]),
        _range("demo/digits@=1.1.0", ["1.1.0"], ["1.1.0-rc.1", "1.1.1-0"]),
    ]
    keys = [DIRECTOR.public.hex]
    return {
        "time-tokens": {"fleet": FLEET, "nonce": TOKEN, "keys": keys, "tokens": tokens},
        "ranges": {"ranges": ranges, "refused": list(REFUSED_RANGES)},
    }


REFUSED_RANGES = (
    "demo:digits@,",
    "demo:digits@1.0.0",
    "demo:digits@2.0.0,1.0.0",
    "demo:digits@1.0.0,1.0.0",
    "demo/digits@1.0.0,2.0.0",
    "demo:digits@>=1.0.0,",
)


def _range(written: str, covers: list[str], spares: list[str]) -> dict[str, Any]:
    found = parse_range(written)
    path = Tombstone("stops", "range", found.name).path
    return {"written": written, "path": path, "covers": covers, "spares": spares}


def bad() -> dict[str, dict[str, Any]]:
    payload = write(assignment_of())
    fine = seal("assignment", payload, [DIRECTOR])
    loose = json.loads(fine)
    loose["payload"] = base64.b64encode(b" " + payload).decode()
    doubled = fine.replace(b'{"payload"', b'{"payload":"","payload"', 1)
    cases = {
        "wrong-key": (seal("assignment", payload, [OTHER]), "E_SIGNATURE"),
        "no-signature-that-counts": (_flip_signature(fine), "E_SIGNATURE"),
        "payload-changed": (canonical(loose), "E_SIGNATURE"),
        "duplicate-key": (doubled, "E_FORMAT"),
        "white-space": (fine + b"\n", "E_FORMAT"),
        "not-json": (b"\x00", "E_FORMAT"),
        "too-large": (fine + b" " * 20_000, "E_SIZE"),
        "payload-not-canonical": (_sealed(b" " + payload), "E_FORMAT"),
        "payload-with-float": (_sealed(payload.replace(b":1,", b":1.0,", 1)), "E_FORMAT"),
        "payload-with-nan": (_sealed(payload.replace(b":1,", b":NaN,", 1)), "E_FORMAT"),
        "payload-too-deep": (_sealed(b"[" * 40 + b"]" * 40), "E_SIZE"),
        "header-missing": (_sealed(b"{}"), "E_FORMAT"),
        "other-fleet": (_sealed(write(assignment_of(fleet="0" * 64))), "E_ADDRESS"),
        "other-enrolment": (_sealed(write(assignment_of(enrolment="0" * 32))), "E_ADDRESS"),
        "other-type": (_sealed(write(assignment_of(type="deployment"))), "E_ADDRESS"),
    }
    made = {
        name: {**_case("assignment", A_TOPIC, envelope), "error": error}
        for name, (envelope, error) in cases.items()
    }
    made["another-devices-assignment"] = {
        **_case("assignment", device_topic("cam-2", "assignment"), fine),
        "error": "E_ADDRESS",
    }
    made["another-devices-evaluation"] = {
        **_case(
            "evaluation",
            device_topic("cam-2", "evaluation"),
            seal("evaluation", write(evaluation_of()), [DIRECTOR]),
        ),
        "error": "E_ADDRESS",
    }
    made["assignment-on-a-group-topic"] = {
        **_case("deployment", G_TOPIC, fine),
        "error": "E_FORMAT",
    }
    return made


def _sealed(payload: bytes) -> bytes:
    return seal("assignment", payload, [DIRECTOR])


def _flip_signature(envelope: bytes) -> bytes:
    value = json.loads(envelope)
    raw = bytearray(base64.b64decode(value["signatures"][0]["sig"]))
    raw[0] ^= 1
    value["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    return canonical(value)


def _case(kind: str, topic: str, envelope: bytes) -> dict[str, Any]:
    return {
        "topic": topic,
        "kind": kind,
        "fleet": FLEET,
        "enrolment": ENROLMENT,
        "keys": [DIRECTOR.public.hex],
        "envelope": envelope.decode("latin-1"),
    }


def text_of(case: dict[str, Any]) -> str:
    return json.dumps(case, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for folder, cases in (("good", good()), ("bad", bad()), ("trust", trust())):
        for name, case in cases.items():
            (HERE / folder / f"{name}.json").write_text(text_of(case))
