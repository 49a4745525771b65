"""Enrolment: a claim token becomes an identity of this device in one fleet.

The key is on disk before the token is used, and the whole answer is (`enrolment.answer`)
before it is spread over its files: killed anywhere, the same command ends the work.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError, UsageError
from modelfleet_agent.web import Site
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.header import Counter, DeviceId, Hex32, Hex64
from modelfleet_manifests.keys import KEY_BYTES, PrivateKey
from modelfleet_manifests.profiles import Facts, write_facts

PROOF = b"mf-enrol-1"
ANSWER = "enrolment.answer"
ENROLMENT = "enrolment.json"
# Of another fleet or enrolment: nothing in them means anything any more.
_STALE = ("tuf", "trust", "documents")
ORDERS = "orders"
FRESH = "orders.new"
"""A file that says: no document was ever held under this enrolment."""
_SERVER_FAULT = 500
_OK = (200, 201)


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
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

    device: DeviceId
    enrolment: Hex32
    incarnation: Counter
    fleet: Hex64
    server: str
    mqtt_host: str
    mqtt_port: int
    token: str


class _Broker(msgspec.Struct, frozen=True):
    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(gt=0, lt=65536)]


class _Answer(msgspec.Struct, frozen=True):
    """What the server answers; `root` is the text of the first root's metadata."""

    device: DeviceId
    enrolment: Hex32
    incarnation: Counter
    fleet: Hex64
    root: str
    token: Annotated[str, Meta(min_length=1)]
    mqtt: _Broker


class _Kept(msgspec.Struct, frozen=True):
    """The answer on its way to its files, with the key and claim that it was given for."""

    enrolment: Enrolment
    root: str
    seed: str
    claim: str


def enrol(
    server: str,
    claim: str,
    directory: Path,
    facts: Facts,
    *,
    force: bool = False,
    proxy: str = "",
) -> Enrolment:
    """Exchange a claim token for an identity; writes keys, root and `enrolment.json`.

    Killed at any instant, the same call may be made again: the key is kept, and the server
    gives the same answer to the same token and key.

    Args:
        server: Base URL.
        claim: The one-time claim token.
        directory: Of the agent; created where it is missing.
        facts: What the device is; the server's page shows them.
        force: Give up an enrolment that is there already.
        proxy: HTTP proxy to the server, "" where there is none.

    Raises:
        UsageError: `E_URL`, `E_CLAIM`, `E_ENROLLED` (without `force`), or what the server
            objects to, with its code.
        RetryableError: `E_UNREACHABLE`, or the server cannot answer now.
        RefusedError: `E_ANSWER`: the answer is not one of a fleet's server.
    """
    site = Site(server, proxy=proxy)
    if not claim:
        raise UsageError("E_CLAIM", "the claim token is empty", hint="see `device claim`")
    if _finish(directory) == _fingerprint(claim):
        return load_enrolment(directory)  # the answer had come when the call was cut
    if (directory / ENROLMENT).exists() and not force:
        known = load_enrolment(directory)
        raise UsageError(
            "E_ENROLLED",
            f"{directory} is enrolled already, as {known.device} at {known.server}",
            hint="use --force to give that up",
            device=known.device,
        )
    key = _new_key(directory)
    answer = _claim(site, claim, key, facts)
    identity = _identity(answer, server)
    kept = _Kept(identity, answer.root, key.seed.hex(), _fingerprint(claim))
    fsio.write_atomic(directory / ANSWER, msgspec.json.encode(kept))
    _finish(directory)
    return kept.enrolment


def load_enrolment(directory: Path) -> Enrolment:
    """Return who this device is.

    Raises:
        UsageError: `E_NOT_ENROLLED`.
    """
    _finish(directory)
    try:
        data = (directory / ENROLMENT).read_bytes()
        return msgspec.json.decode(data, type=Enrolment)
    except FileNotFoundError:
        raise UsageError(
            "E_NOT_ENROLLED",
            f"{directory} holds no enrolment",
            hint="run `modelfleet-agent enrol` with a claim token",
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(
            "E_NOT_ENROLLED",
            f"{directory / ENROLMENT} cannot be read ({error})",
            hint="enrol again with --force and a new claim token",
        ) from None


def load_report_key(directory: Path) -> PrivateKey:
    """Return the key that signs reports; raises as `load_enrolment`."""
    key = _read_key(directory / "keys" / "report.key")
    if key is None:
        raise UsageError(
            "E_NOT_ENROLLED",
            f"{directory} holds no report key",
            hint="enrol again with --force and a new claim token",
        )
    return key


def make_proof(claim: str, key: PrivateKey) -> str:
    """Return the proof of possession that the server asks for, hexadecimal."""
    token = hashlib.sha256(claim.encode()).digest()
    return key.sign(PROOF + token + bytes.fromhex(key.public.hex)).hex()


def _fingerprint(claim: str) -> str:
    return sha256(claim.encode())


def _new_key(directory: Path) -> PrivateKey:
    path = fsio.private_dir(directory / "keys") / "report.new"
    key = _read_key(path)
    if key is None:
        key = PrivateKey.generate()
        fsio.write_atomic(path, key.seed.hex().encode())
    return key


def _read_key(path: Path) -> PrivateKey | None:
    try:
        seed = bytes.fromhex(path.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return PrivateKey(seed) if len(seed) == KEY_BYTES else None


def _claim(site: Site, claim: str, key: PrivateKey, facts: Facts) -> _Answer:
    wish = {
        "token": claim,
        "public_key": key.public.hex,
        "proof": make_proof(claim, key),
        "facts": write_facts(facts),
    }
    try:
        status, value = site.ask("POST", "/api/v1/enrol", wish)
    finally:
        site.close()
    if status not in _OK:
        raise _objection(site.base, status, value)
    try:
        answer = msgspec.convert(value, _Answer)
    except msgspec.ValidationError as error:
        raise _no_answer(site.base, str(error)) from None
    if sha256(answer.root.encode()) != answer.fleet:
        raise _no_answer(site.base, "the fleet id is not the digest of its root")
    return answer


def _objection(base: str, status: int, value: Any) -> UsageError | RetryableError:  # noqa: ANN401 - JSON
    told = value if isinstance(value, dict) else {}
    code = str(told.get("code") or f"E_HTTP_{status}")
    what = f"{base} does not enrol this device: {told.get('detail') or f'status {status}'}"
    hint = str(told.get("hint") or "")
    kind = RetryableError if status >= _SERVER_FAULT else UsageError
    return kind(code, what, hint=hint, status=status)


def _no_answer(base: str, why: str) -> RefusedError:
    return RefusedError(
        "E_ANSWER",
        f"{base} does not answer as a modelfleet server: {why}",
        hint="is this the server's base address?",
    )


def _identity(answer: _Answer, server: str) -> Enrolment:
    return Enrolment(
        device=answer.device,
        enrolment=answer.enrolment,
        incarnation=answer.incarnation,
        fleet=answer.fleet,
        server=server.rstrip("/"),
        mqtt_host=answer.mqtt.host,
        mqtt_port=answer.mqtt.port,
        token=answer.token,
    )


def _finish(directory: Path) -> str | None:
    """Spread a kept answer over its files; `enrolment.json` is the last. Idempotent.

    Returns:
        The digest of the claim that was answered, or None where there was nothing to do.
    """
    try:
        kept = msgspec.json.decode((directory / ANSWER).read_bytes(), type=_Kept)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        what = f"{directory / ANSWER} is damaged ({error})"
        raise RetryableError("E_RECORD", what, hint="remove it and enrol again") from error
    for name in _STALE:
        fsio.remove_tree(directory / name)
    fsio.remove(directory / ORDERS)
    root = fsio.private_dir(directory / "factory") / "root.json"
    fsio.write_atomic(root, kept.root.encode(), mode=fsio.READ_ONLY)
    fsio.write_atomic(directory / FRESH, b"")
    keys = fsio.private_dir(directory / "keys")
    fsio.write_atomic(keys / "report.key", kept.seed.encode())
    fsio.write_atomic(directory / ENROLMENT, msgspec.json.encode(kept.enrolment))
    fsio.remove(keys / "report.new")
    fsio.remove(directory / ANSWER)
    return kept.claim


def load_root(directory: Path) -> bytes:
    """Return the metadata of the fleet's first root, as it was given at enrolment.

    Raises:
        UsageError: `E_NOT_ENROLLED`.
    """
    try:
        return (directory / "factory" / "root.json").read_bytes()
    except OSError:
        raise UsageError(
            "E_NOT_ENROLLED",
            f"{directory} holds no factory root",
            hint="run `modelfleet-agent enrol` with a claim token",
        ) from None
