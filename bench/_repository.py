"""A TUF repository of many models, and the agent's client at its first meeting with it."""

import gzip
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

from tuf.api.metadata import Metadata, Signed, Targets

from modelfleet_agent.clock import boot_ms
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.messages import Wish
from modelfleet_agent.trust.shell import Shell
from modelfleet_agent.trust.state import TrustState
from modelfleet_agent.trust.survey import Survey
from modelfleet_agent.web import Site
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.recalls import Tombstone
from modelfleet_manifests.release import (
    Demands,
    File,
    Golden,
    Release,
    Schema,
    Tensor,
    Variant,
    write_release,
)
from modelfleet_manifests.timetoken import seal_token, write_token
from modelfleet_manifests.tuf_keys import NaclSigner
from modelfleet_server.trust import delegations, repository
from modelfleet_server.trust.delegations import KeySet

NAMESPACES = 20
PROFILES = ("generic", "x86-avx2", "arm64")
SCHEMAS = 5


@dataclass(frozen=True)
class Repository:
    """What a server serves.

    Attributes:
        files: All below `/tuf/` by URL path.
        keys: Of which two sign every role, and what time it is.
        now: When all was signed, Unix ms.
    """

    files: dict[str, bytes]
    keys: list[PrivateKey]
    now: int

    @property
    def fleet(self) -> str:
        """SHA-256 of the first root."""
        return sha256(self.files["/tuf/metadata/1.root.json"])

    def answer(self, path: str) -> bytes | None:
        """Return what a path answers."""
        _, question, nonce = path.rpartition("/tuf/time/")
        if not question:
            return self.files.get(path)
        return seal_token(write_token(self.fleet, nonce, self.now), self.keys)


def build_repository(*, models: int, versions: int, now: int) -> Repository:
    """Return a repository in which every role is signed by 2 of 3 keys."""
    press = _Press()
    three = press.keys
    top = ("root", "targets", "snapshot", "timestamp")
    press.sign("root", repository.make_root(dict.fromkeys(top, three), now))
    own = ("revocations", "stops", "director", "time")
    targets = repository.make_targets(dict.fromkeys(own, three), three, now)
    for role in delegations.RECALL_PATHS:
        press.sign(role, _recalls(role, now))
    for number in range(NAMESPACES):
        name = f"team{number:02}"
        delegations.delegate_namespace(targets, name, three)
        space = repository.make_empty(name, now)
        for place in range(models // NAMESPACES):
            model, schema = f"{name}/model-{place:03}", _schema(place % SCHEMAS)
            delegations.delegate_model(space, model, three)
            repository.add_slot_rule(targets, f"slot-{number:02}", model, schema.digest)
            listed = repository.make_empty(model, now)
            for version in range(versions):
                press.add(listed, _release(model, f"1.{version}.0", schema))
            press.sign(model, listed)
        press.sign(name, space)
    press.sign("targets", targets)
    snapshot = press.sign("snapshot", repository.make_snapshot(None, press.named, now))
    press.sign("timestamp", repository.make_timestamp(None, snapshot, now))
    return Repository(press.files, press.signers, now)


class _Press:
    """Signs roles and keeps what is served."""

    def __init__(self) -> None:
        private = [PrivateKey.generate() for _ in range(3)]
        self.keys = KeySet(tuple(key.public for key in private), 2)
        self.signers = private[:2]
        self.files: dict[str, bytes] = {}
        self.named: dict[str, int] = {}

    def sign(self, role: str, signed: Signed) -> bytes:
        metadata: Metadata[Any] = Metadata(signed)
        for key in self.signers:
            metadata.sign(NaclSigner(key), append=True)
        data = metadata.to_bytes()
        prefix = "" if role == "timestamp" else f"{signed.version}."
        self.files[f"/tuf/metadata/{prefix}{role}.json"] = data
        if role not in {"root", "snapshot", "timestamp"}:
            self.named[role] = signed.version
        return data

    def add(self, role: Targets, release: Release) -> None:
        data = write_release(release)
        path = release_path(release.model, release.version)
        repository.add_target(role, path, data)
        folder, _, name = path.rpartition("/")
        self.files[f"/tuf/targets/{folder}/{sha256(data)}.{name}"] = data


def _recalls(role: str, now: int) -> Signed:
    signed = repository.make_empty(role, now)
    for number in range(10):
        path = Tombstone(role, "release", f"{number:064x}").path
        repository.add_target(signed, path, b"", {"reason": "wrong on drifted images"})
    return signed


def _schema(number: int) -> Schema:
    return Schema(
        inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 3, 224, 224 + number])],
        outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 10])],
    )


def _release(model: str, version: str, schema: Schema) -> Release:
    def digest(what: str) -> str:
        return sha256(f"{model} {version} {what}".encode())

    return Release(
        model=model,
        version=version,
        master=File(name="master.onnx", digest=digest("master"), length=90_000_000),
        lineage=digest("lineage"),
        schema=schema,
        modes=["active"],
        demands=Demands(),
        rollback_to=[],
        variants=[
            Variant(
                name=f"{profile}-int8",
                profile=profile,
                opset=17,
                providers=[],
                files=[File(name="model.onnx", digest=digest(profile), length=22_000_000)],
                golden=Golden(
                    file=File(name="golden.npz", digest=digest("golden"), length=90_000),
                    atol="0.001",
                    rtol="0.001",
                ),
                recipe=digest("recipe"),
                toolchain=digest("toolchain"),
                calibration=digest("calibration"),
                vouched="rebuilt",
                metrics={"accuracy": "0.981"},
            )
            for profile in PROFILES
        ],
    )


@dataclass
class ColdClient:
    """The agent's survey of a repository, with nothing cached.

    Attributes:
        bytes: Of bodies as they travelled, packed.
        raw: Of the same, unpacked.
        cpu_ms: Of the client's thread for verifying, parsing and writing; HTTP included.
    """

    repository: Repository
    folder: Path
    bytes: int = 0
    raw: int = 0
    requests: int = 0
    cpu_ms: float = 0
    by_file: dict[str, int] = field(default_factory=dict)

    def run(self) -> "ColdClient":
        """Look up the newest release of one model; the median CPU of nine cold starts."""
        files = self.repository.files
        release = next(one for one in files if "/team07/model-011/1.19.0/" in one)
        path = release.removeprefix("/tuf/targets/")
        folder, _, name = path.rpartition("/")
        wish = Wish(f"{folder}/release.json", name.partition(".")[0])
        with _Served(self) as url:
            times = [self._survey(url, self.folder / str(one), wish) for one in range(9)]
        self.cpu_ms = sorted(times)[len(times) // 2]
        return self

    def _survey(self, url: str, folder: Path, wish: Wish) -> float:
        self.by_file = {}
        files, fleet = self.repository.files, self.repository.fleet
        root = files["/tuf/metadata/1.root.json"]
        site = Site(url, token="none")
        folder.mkdir(parents=True)
        before, floors = TrustState(fleet=fleet), Floors(fleet=fleet)
        begin = time.thread_time()
        survey = Survey.begin(root, before, floors, "a" * 32)
        state = Shell(folder, site, boot_ms).drive(survey.walk([wish]))
        used = (time.thread_time() - begin) * 1000
        site.close()
        if list(state.listed.values()) != [wish.id] or survey.answer.time is None:
            raise RuntimeError("the client did not find the release")
        self.bytes = sum(self.by_file.values()) + len(root)
        self.raw = sum(len(files.get(one, b"")) for one in self.by_file) + len(root)
        self.requests = len(self.by_file)
        return used


class _Served:
    """Serve the files on loopback, and count what is sent."""

    def __init__(self, client: ColdClient) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                data = client.repository.answer(unquote(self.path))
                self.send_response(200 if data is not None else 404)
                body = gzip.compress(data, mtime=0) if data else b""  # as our server does
                client.by_file[unquote(self.path)] = len(body)
                if data:
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
