"""Variants of real models: what is tried per profile, what ships, and at what price.

    python -m bench.variants [--packages DIR] [--only REGEX] [--profiles a,b]

The digits are our own. Models that others ship in packages are taken from DIR, filled by

    pip install --no-deps --target DIR magika==1.0.3 rapidocr-onnxruntime==1.4.4 pillow

What is not there is left out and named. Where QEMU's user mode is installed, variants are
also scored on the processors that their profiles name; nothing is timed there. The last
line is one JSON object.
"""

import argparse
import importlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelfleet_server import demo
from modelfleet_server.builds import children, emulation
from modelfleet_server.builds.choosing import Candidate, interval
from modelfleet_server.builds.domain import BuildJob, Limits
from modelfleet_server.builds.recipes import plan_for
from modelfleet_server.kit.errors import InvalidError

PROFILES = ("x86-vnni", "x86-avx2", "arm64-dotprod", "jetson-orin-trt", "generic")
LIMITS = Limits(memory_mb=8192, cpu_s=900, wall_s=1800.0)
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
KINDS = {
    ".py": "python", ".html": "html", ".css": "css", ".js": "javascript", ".c": "c",
    ".json": "json", ".md": "markdown", ".rst": "rst", ".png": "png", ".svg": "svg",
    ".sh": "shell", ".pl": "perl", ".xml": "xml", ".yaml": "yaml", ".toml": "toml",
    ".pyc": "pythonbytecode", ".gz": "gzip", ".ttf": "ttf", ".pem": "pem", ".csv": "csv",
}  # fmt: skip
EACH = 40
PARTS = ("Image", "ImageDraw", "ImageFont")


class Subject(NamedTuple):
    """A model with samples to score it on and others to quantize by."""

    name: str
    master: Path
    evaluation: Path
    calibration: Path


class MissingError(Exception):
    """Something that this model needs is not on this machine."""


def main() -> None:
    options = _options()
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="modelfleet-bench-") as folder:
        for name, make in SUBJECTS.items():
            if not re.search(options.only, name):
                continue
            try:
                subject = make(name, options.packages, Path(folder))
            except MissingError as error:
                missing[name] = str(error)
                continue
            rows += [
                _measure(subject, profile, Path(folder))
                for profile in options.profiles.split(",")
            ]
    for name, why in missing.items():
        print(f"{name}: left out, {why}")
    print(json.dumps({"models": rows, "missing": missing}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=Path("/nowhere"))
    parser.add_argument("--only", default="")
    parser.add_argument("--profiles", default=",".join(PROFILES))
    return parser.parse_args()


def _measure(subject: Subject, profile: str, folder: Path) -> dict[str, Any]:
    job = BuildJob(
        master=str(subject.master),
        evaluation=str(subject.evaluation),
        calibration=str(subject.calibration),
        profile=plan_for(profile),
    )
    row: dict[str, Any] = {"model": subject.name, "profile": profile}
    schema = children.inspect(subject.master).schema
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        began = time.monotonic()
        try:
            built, _ = emulation.build_proven(
                job, LIMITS, Path(scratch), schema, children.Ask()
            )
        except InvalidError as error:
            print(f"{subject.name} {profile}: {error}")
            return row | {"variant": None, "why": error.what}
        took = time.monotonic() - began
    chosen = next(one for one in built.front if one.chosen)
    full = built.front[-1]
    accuracy = float(built.metrics["master-accuracy"])
    print(f"\n{subject.name} {profile}: {built.why}")
    for one in built.front:
        print(f"  {_line(one, full)}")
    return row | {
        "variant": built.recipe_name,
        "accuracy_drop": round(accuracy - (chosen.accuracy or 0), 4),
        "latency_ratio": round((chosen.latency_ms or 0) / (full.latency_ms or 1), 3),
        "size_ratio": round((chosen.size or 0) / subject.master.stat().st_size, 3),
        "build_s": round(took, 2),
        "emulated": chosen.emulated,
        "unproven": built.unproven,
        "candidates": [_facts(one, full) for one in built.front],
    }


def _facts(one: Candidate, full: Candidate) -> dict[str, Any]:
    if one.refused:
        return {"name": one.name, "refused": one.refused}
    return {
        "name": one.name,
        "accuracy": round(one.accuracy or 0, 4),
        "latency_ratio": round((one.latency_ms or 0) / (full.latency_ms or 1), 3),
        "size": one.size,
    }


def _line(one: Candidate, full: Candidate) -> str:
    if one.refused or full.latency_ms is None:
        return f"{one.name:13} {one.refused}"
    high = interval(one.disagreements or 0, one.samples)[1]
    return (
        f"{one.name:13} {'ships' if one.chosen else '':6} accuracy {one.accuracy:.4f}  "
        f"disagrees {one.disagreements}/{one.samples} (<= {high:.3f})  "
        f"{(one.latency_ms or 0) / full.latency_ms:.2f} of {full.latency_ms:.3f} ms  "
        f"{(one.size or 0) / 1e6:.2f} MB"
    )


def _digits(name: str, _packages: Path, _folder: Path) -> Subject:
    assets = Path(demo.__file__).parent / "assets"
    return Subject(
        name,
        assets / f"{name}.onnx",
        assets / "digits.eval.npz",
        assets / "digits.calibration.npz",
    )


def _magika(name: str, packages: Path, folder: Path) -> Subject:
    """What kind of file it is, by its first and last 1024 bytes; labelled by extension."""
    model = packages / "magika/models/standard_v3_3"
    if not model.exists():
        raise MissingError("magika 1.0.3 is not there")
    labels = json.loads((model / "config.min.json").read_text())["target_labels_space"]
    x, y = [], []
    for path, kind in _some_files():
        x.append(_ends(path.read_bytes()))
        y.append(labels.index(kind))
    order = np.random.default_rng(1).permutation(len(x))
    bytes_, truth = np.array(x, np.int32)[order], np.array(y, np.int64)[order]
    return _split(name, model / "model.onnx", {"bytes": bytes_}, truth, folder)


def _some_files() -> Iterator[tuple[Path, str]]:
    left = dict.fromkeys(KINDS, EACH)
    for root in (Path(np.__file__).parents[1], Path(json.__file__).parents[1],
                 Path("/usr/share"), Path("/etc")):  # fmt: skip
        for path in sorted(root.rglob("*")):
            kind = path.suffix
            if left.get(kind, 0) and path.is_file() and path.stat().st_size > 64:
                left[kind] -= 1
                yield path, KINDS[kind]


def _ends(data: bytes) -> list[int]:
    first, last = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
    return [*first, *[256] * (1024 - len(first)), *[256] * (1024 - len(last)), *last]


def _upside_down(name: str, packages: Path, folder: Path) -> Subject:
    """Whether a line of text stands on its head: rendered here, so the truth is known."""
    models = packages / "rapidocr_onnxruntime/models"
    if not models.exists() or not Path(FONT).exists():
        raise MissingError("rapidocr-onnxruntime 1.4.4 or the font DejaVu is not there")
    sys.path.insert(0, str(packages))
    try:
        pil = {part: importlib.import_module(f"PIL.{part}") for part in PARTS}
    except ImportError:
        raise MissingError("pillow is not there") from None
    rng = np.random.default_rng(2)
    words = re.findall(r"[A-Za-z]{3,}", Path(json.__file__).read_text())
    font = pil["ImageFont"].truetype(FONT, 30)
    x = np.zeros((528, 3, 48, 192), np.float32)
    y = np.arange(len(x), dtype=np.int64) % 2
    for index, turned in enumerate(y):
        image = pil["Image"].new("RGB", (192, 48), "white")
        text = " ".join(rng.choice(words, 2))
        pil["ImageDraw"].Draw(image).text((4, 5), text, "black", font)
        pixels = np.asarray(image.rotate(180 * int(turned)), np.float32)
        noise = rng.normal(0, 40, pixels.shape)
        x[index] = ((pixels + noise).clip(0, 255) / 127.5 - 1).transpose(2, 0, 1)
    return _split(name, models / "ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": x}, y, folder)


def _split(
    name: str,
    master: Path,
    inputs: dict[str, np.ndarray[Any, Any]],
    truth: np.ndarray[Any, Any],
    folder: Path,
) -> Subject:
    """Give the first 128 samples to calibration and the others to evaluation."""
    evaluation, calibration = folder / f"{name}.eval.npz", folder / f"{name}.cal.npz"
    few: dict[str, Any] = {key: array[:128] for key, array in inputs.items()}
    rest: dict[str, Any] = {key: array[128:] for key, array in inputs.items()}
    np.savez(calibration, **few)
    np.savez(evaluation, y=truth[128:], **rest)
    return Subject(name, master, evaluation, calibration)


SUBJECTS: dict[str, Callable[[str, Path, Path], Subject]] = {
    "digits-1.0.0": _digits,
    "digits-1.1.0": _digits,
    "magika-1.0.3": _magika,
    "ppocr-cls-2.0": _upside_down,
}

if __name__ == "__main__":
    main()
