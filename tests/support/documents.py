"""Builders of documents for tests: valid by default, one aspect changed at a time."""

import zlib
from typing import Any

from msgspec import UNSET

from modelfleet_manifests.assignment import Assignment, ByGroup, Governor, Since
from modelfleet_manifests.deployment import (
    Admit,
    Deployment,
    Left,
    SlotSteps,
    Step,
    Tighten,
)
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.evaluation import Allowance, Evaluation
from modelfleet_manifests.header import Header, Minimum
from modelfleet_manifests.release import (
    Demands,
    File,
    Golden,
    Release,
    ReleaseRef,
    Schema,
    Tensor,
    Variant,
    release_ref,
)
from modelfleet_manifests.trust import SlotRule, TrustView

FLEET = "f" * 64
DEVICE = "cam-1"
ENROLMENT = "e" * 32
GROUP = "a" * 32
SALT = "5" * 32
DAY = 86_400_000


def hex_of(number: int, digits: int = 64) -> str:
    return f"{number:0{digits}x}"


def file_of(number: int, name: str = "model.onnx") -> File:
    return File(name=name, digest=hex_of(number), length=1000 + number)


def variant_of(name: str, profile: str, number: int) -> Variant:
    return Variant(
        name=name,
        profile=profile,
        opset=17,
        providers=[],
        files=[file_of(number)],
        golden=Golden(file=file_of(number + 1, "golden.npz"), atol="0.001", rtol="0.01"),
        recipe=hex_of(1),
        toolchain=hex_of(2),
        calibration="",
        vouched="rebuilt",
        metrics={"accuracy": "0.97"},
    )


def release_of(
    version: str,
    *,
    model: str = "demo/digits",
    rollback_to: list[str] | None = None,
    profiles: tuple[str, ...] = ("generic",),
) -> Release:
    seed = zlib.crc32(f"{model}@{version}".encode()) % 100_000
    return Release(
        model=model,
        version=version,
        master=file_of(seed, "master.onnx"),
        lineage=hex_of(seed + 1),
        schema=Schema(
            inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 1, 8, 8])],
            outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 10])],
        ),
        modes=["active"],
        demands=Demands(),
        rollback_to=rollback_to or [],
        variants=[
            variant_of(profile, profile, seed * 100 + 10 * place)
            for place, profile in enumerate(profiles)
        ],
    )


def header_of(
    kind: str,
    counter: int = 1,
    *,
    device: str | None = None,
    enrolment: str | None = None,
    group: str | None = None,
    **changes: Any,
) -> Header:
    fields: dict[str, Any] = {
        "type": kind,
        "v": 0,
        "needs": [],
        "fleet": FLEET,
        "epoch": 1,
        "counter": counter,
        "issued": counter,
        "expires": 30 * DAY,
        "min": Minimum(),
        "device": device or UNSET,
        "enrolment": enrolment or (ENROLMENT if device else UNSET),
        "group": group or UNSET,
    }
    return Header(**{**fields, **changes})


def assignment_of(
    slots: dict[str, Governor] | None = None,
    *,
    counter: int = 1,
    labels: dict[str, str] | None = None,
    **changes: Any,
) -> Assignment:
    by_group = ByGroup(group=GROUP, since=Since(epoch=0, counter=0))
    return Assignment(
        header=header_of("assignment", counter, device=DEVICE, **changes),
        slots={"detector": by_group} if slots is None else slots,
        labels=labels or {},
        incarnation=1,
        report_key=hex_of(7),
        nonce=hex_of(9, 32),
    )


def evaluation_of(**changes: Any) -> Evaluation:
    """The evaluation of a model of two files on the device."""
    files = [
        File(name=name, digest=sha256(name.encode()), length=len(name))
        for name in ("model.onnx", "weights.bin", "samples.npz")
    ]
    return Evaluation(
        header=header_of("evaluation", device=DEVICE, **changes),
        job=hex_of(5, 32),
        model="demo/digits",
        candidate=files[:2],
        samples=files[2],
        allowance=Allowance(memory_mb=512, wall_s=60, samples=100),
    )


def step_of(release: Release, number: int, *, to: str = "all", **changes: Any) -> Step:
    fields: dict[str, Any] = {
        "id": hex_of(number, 32),
        "release": release_ref(release),
        "admit": Admit(salt=SALT, to=to, enrolments=[], labels={}),
        "gates": Tighten(),
    }
    return Step(**{**fields, **changes})


def deployment_of(
    *steps: Step, counter: int = 1, left: list[Left] | None = None, **changes: Any
) -> Deployment:
    return Deployment(
        header=header_of("deployment", counter, group=GROUP, **changes),
        slots={"detector": SlotSteps(steps=list(steps))} if steps else {},
        left=left or [],
    )


def view_of(*releases: Release, **changes: Any) -> TrustView:
    rules = tuple(
        {SlotRule(release.model, release.schema.digest): 0 for release in releases}
    )
    fields: dict[str, Any] = {
        "releases": {ref_of(release).id: release for release in releases},
        "slots": {"detector": rules},
        "epoch": 1,
    }
    return TrustView(**{**fields, **changes})


def ref_of(release: Release) -> ReleaseRef:
    return release_ref(release)
