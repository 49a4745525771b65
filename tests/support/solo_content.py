"""Made-up releases, files and steps for a `SoloFleet`."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelfleet_manifests.deployment import ALL, Admit, Step, Tighten
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.release import (
    Demands,
    File,
    Golden,
    Release,
    ReleaseRef,
    Schema,
    Tensor,
    Variant,
)

SCHEMA = Schema(
    inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 1, 8, 8])],
    outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 10])],
)


def random_id() -> str:
    """Return 32 hexadecimal digits."""
    return secrets.token_hex(16)


@dataclass
class Files:
    """What an HTTP server hands out; tests put in and take away at will.

    Attributes:
        metadata: By file name, such as `timestamp.json` or `3.targets.json`.
        targets: By path below `/tuf/targets/`.
        blobs: By SHA-256.
        deltas: Offers by (new, old).
    """

    metadata: dict[str, bytes] = field(default_factory=dict)
    targets: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    deltas: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add_blob(self, data: bytes) -> str:
        """Offer `data`; return its digest."""
        self.blobs[sha256(data)] = data
        return sha256(data)

    def add_delta(self, new: str, old: str, patch: bytes, *, method: str = "td1") -> str:
        """Offer a patch from `old` to `new`; return the patch's digest."""
        digest = self.add_blob(patch)
        self.deltas[new, old] = {
            "blob": digest,
            "length": len(patch),
            "method": method,
            "memory": 1 << 20,
        }
        return digest


def make_file(files: Files, name: str, data: bytes) -> File:
    """Offer `data` as a blob and return how a release names it."""
    return File(name=name, digest=files.add_blob(data), length=len(data))


def make_variant(
    files: Files,
    data: bytes,
    *,
    name: str = "any-fp32",
    profile: str = "generic",
    golden: bytes = b"golden",
    extra: Mapping[str, bytes] | None = None,
) -> Variant:
    """Return a variant whose graph has the bytes `data`; its files are offered as blobs."""
    more = [make_file(files, one, body) for one, body in (extra or {}).items()]
    return Variant(
        name=name,
        profile=profile,
        opset=17,
        providers=[],
        files=[make_file(files, "model.onnx", data), *more],
        golden=Golden(
            file=make_file(files, "golden.npz", golden), atol="0.001", rtol="0.001"
        ),
        recipe="1" * 64,
        toolchain="2" * 64,
        calibration="",
        vouched="rebuilt",
        metrics={"accuracy": "0.98"},
    )


def make_release(
    files: Files,
    version: str,
    *,
    model: str = "demo/digits",
    variants: Sequence[Variant] = (),
    rollback_to: Sequence[str] = (),
    schema: Schema = SCHEMA,
    demands: Demands | None = None,
) -> Release:
    """Return a release; without `variants` it has one whose bytes name the version."""
    made = list(variants) or [make_variant(files, f"{model} {version}".encode() * 512)]
    return Release(
        model=model,
        version=version,
        master=File(name="master.onnx", digest="3" * 64, length=1),
        lineage="4" * 64,
        schema=schema,
        modes=["active"],
        demands=demands or Demands(),
        rollback_to=list(rollback_to),
        variants=made,
    )


def make_step(release: ReleaseRef, *, to: str = ALL, step: str | None = None) -> Step:
    """Return a step that admits everybody, or buckets below `to`."""
    return Step(
        id=step or random_id(),
        release=release,
        admit=Admit(salt=random_id(), to=to, enrolments=[], labels={}),
        gates=Tighten(),
    )
