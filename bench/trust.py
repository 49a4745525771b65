"""What trust costs: signing, a cold client's metadata, verifying, and a recall's way out.

    python -m bench.trust [--devices 10000]

The last line is one JSON object:

`director_signs_s`   assignments composed, and checked and signed by the signer's process,
                     per second
`metadata_bytes`     what a cold client loads at 500 models of 20 versions, 3 variants,
                     packed as the server sends it (`metadata_raw_bytes`: unpacked)
`metadata_cpu_ms`    its CPU for that: HTTP, signatures, strict parsing, what it stores
`verify_us`          CPU of verifying and parsing one deployment document of 8 steps
`recall_ratio`       from the last signature to the last device, against a raw publish of
                     the same bytes by the same broker to the same subscribers
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.fleet import begin
from tests.support.server import make_database

from bench._fanout import measure_recall
from bench._repository import ColdClient, build_repository
from modelfleet_manifests.assignment import Assignment, ByGroup, Since
from modelfleet_manifests.deployment import ALL, Admit, Deployment, SlotSteps, Step, Tighten
from modelfleet_manifests.document import cap_of, read_directed, write
from modelfleet_manifests.envelope import seal, unseal, wrap
from modelfleet_manifests.header import Header, Minimum, Order
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.topics import device_topic
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.trust.director import BATCH
from modelfleet_server.trust.drafting import Basis, Draft, compose
from modelfleet_server.trust.lessons import lessons
from modelfleet_server.trust.signer.child import SignerChild
from modelfleet_server.trust.signer.remote import RemoteSigner

NOW = 1_790_000_000_000
DAY = 86_400_000


def header(kind: str, counter: int, **address: str) -> Header:
    return Header(
        type=kind,
        v=0,
        needs=[],
        fleet="f" * 64,
        epoch=1,
        counter=counter,
        issued=NOW,
        expires=NOW + 30 * DAY,
        min=Minimum(root=1, timestamp=400, snapshot=400, targets=30),
        **address,
    )


def measure_signing(folder: Path, count: int = 4096) -> float:
    """Return assignments per second: composed here, signed by the signer's own process.

    As the server does it for a group: `BATCH` at once, each checked against the signer's
    rules, and its order noted before the signature leaves the process.
    """
    database = make_database(folder / "db")
    begun = begin(database, folder, now_ms=now_ms()).fleet
    child = SignerChild(folder / "keys" / "online.key", folder / "signer.sock")
    child.start()
    child.wait_ready()
    signer = RemoteSigner(folder / "signer.sock")
    with database.read() as session:
        signer.learn(list(lessons(session)))
    database.close()
    start = time.perf_counter()
    for first in range(0, count, BATCH):
        payloads = [
            compose(_draft(number), Basis(begun, Minimum(), now_ms()), Order(1, 1)).payload
            for number in range(first, first + BATCH)
        ]
        for payload, one in zip(
            payloads, signer.sign_documents("assignment", payloads, []), strict=True
        ):
            wrap("assignment", payload, [(one.key_id, one.value)])
    took = time.perf_counter() - start
    signer.close()
    child.stop()
    return count / took


def _draft(number: int) -> Draft:
    def build(header: Header) -> Assignment:
        return Assignment(
            header=header,
            slots={"main": ByGroup(group="a" * 32, since=Since(epoch=1, counter=1))},
            labels={"site": "oslo", "line": "a"},
            incarnation=1,
            report_key="5" * 64,
            nonce=f"{number:032x}",
        )

    device = f"cam-{number}"
    topic = device_topic(device, "assignment")
    return Draft(topic, build, device=device, enrolment=f"{number:032x}")


def make_deployment(key: PrivateKey) -> bytes:
    """Return a deployment with a full stack of steps in one slot."""
    steps = [
        Step(
            id=f"{number:032x}",
            release=ReleaseRef(model="demo/digits", version=f"1.{number}.0", id="c" * 64),
            admit=Admit(salt="5" * 32, to=ALL, enrolments=[], labels={}),
            gates=Tighten(),
        )
        for number in range(8)
    ]
    document = Deployment(
        header=header("deployment", 1, group="a" * 32),
        slots={"main": SlotSteps(steps=steps)},
        left=[],
    )
    return seal("deployment", write(document), [key])


def cpu_us(work: Callable[[], object], repeat: int) -> float:
    """Return the median CPU of `work` in microseconds, over five rounds."""
    rounds = []
    for _ in range(5):
        begin = time.thread_time()
        for _ in range(repeat):
            work()
        rounds.append((time.thread_time() - begin) / repeat * 1e6)
    return statistics.median(rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    wish = parser.parse_args()
    key = PrivateKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        signs = measure_signing(Path(folder))
    print(f"assignments signed: {signs:,.0f}/s", flush=True)
    envelope = make_deployment(key)

    def verify() -> object:
        payload = unseal(envelope, "deployment", [key.public], cap=cap_of("deployment"))
        return read_directed(payload, Deployment, "deployment")

    verify_us = cpu_us(verify, 300)
    print(
        f"a deployment of {len(envelope):,} bytes verified: {verify_us:.0f} us", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        made = build_repository(models=500, versions=20, now=NOW)
        cold = ColdClient(made, Path(folder)).run()
    print(f"cold client: {cold.bytes:,} bytes in {cold.requests} requests", flush=True)
    for name, length in sorted(cold.by_file.items(), key=lambda one: -one[1]):
        print(f"  {length:>8,}  {name}")
    print(f"cold client: {cold.cpu_ms:.1f} ms of CPU", flush=True)
    recall = measure_recall(wish.devices)
    print(
        f"recall to {recall.devices:,} devices: {recall.recall_s:.2f} s,"
        f" raw publish {recall.raw_s:.2f} s",
        flush=True,
    )
    print(
        json.dumps(
            {
                "director_signs_s": round(signs),
                "metadata_bytes": cold.bytes,
                "metadata_raw_bytes": cold.raw,
                "metadata_cpu_ms": round(cold.cpu_ms, 1),
                "verify_us": round(verify_us),
                "recall_ratio": round(recall.recall_s / recall.raw_s, 2),
                "recall_s": round(recall.recall_s, 2),
                "devices": recall.devices,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
