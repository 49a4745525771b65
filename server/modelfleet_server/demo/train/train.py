"""Train the three versions of `demo/digits` and write all assets of the demonstration.

    python train.py OUT

    1.0.0   from scratch, training images shifted, turned, scaled and made noisy at random
    1.1.0   1.0.0, all layers trained on at a low rate, on the same kind of images
    1.2.0   the same architecture from scratch, on the images as they are

Seeded and on one thread: a second run on the same machine writes every file again byte
for byte. Another processor may give other weights in the last bits.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import runpy
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).resolve().parent
drifted = runpy.run_path(str(HERE.parent / "traffic.py"))["drifted"]

SEED = 1
BATCH = 64
EVALUATION, LIVE, CALIBRATION = 450, 350, 128
DRIFT_SEED, DRIFT_ROUNDS = 20, 10


@dataclasses.dataclass(frozen=True)
class How:
    """How one version is trained; decimals are strings, canonical JSON has no floats."""

    parent: str | None
    epochs: int
    rate: str
    augmentation: bool
    norm_statistics: str = "trained"
    optimizer: str = "adamw"
    schedule: str = "cosine"
    batch: int = BATCH


VERSIONS = {
    "1.0.0": How(parent=None, epochs=90, rate="0.003", augmentation=True),
    "1.1.0": How(
        parent="1.0.0",
        epochs=12,
        rate="0.000005",
        augmentation=True,
        norm_statistics="kept",
    ),
    "1.2.0": How(parent=None, epochs=40, rate="0.003", augmentation=False),
}
Part = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Images [N, 1, 8, 8] from 0 to 1, and what digit each is."""


class Net(nn.Module):  # type: ignore[misc]  # torch is not in the project's environment
    """Four convolutions with BatchNorm, a maximum over 2x2 pixels, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(1, 32, 1), (32, 48, 1), (48, 64, 2), (64, 64, 1)]
        self.body = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after, stride in widths
            )
        )
        self.head = nn.Linear(64 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.max_pool2d(self.body(x), 2).flatten(1))


def augment(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Turn (to 17 degrees), scale (to 20 %), shift (to 1.6 pixels) and add noise."""
    n = len(images)

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(n, generator=rng) * 2 - 1) * limit

    angle, scale = uniform(0.3), 1 + uniform(0.2)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([cos, -sin, uniform(0.4), sin, cos, uniform(0.4)], 1)
    grid = functional.affine_grid(
        theta.view(n, 2, 3), list(images.shape), align_corners=False
    )
    moved = functional.grid_sample(images, grid, align_corners=False)
    strength = 0.2 + torch.rand((n, 1, 1, 1), generator=rng) * 0.15
    return (moved + strength * torch.randn(moved.shape, generator=rng)).clamp(0, 1)


def train(model: Net, images: torch.Tensor, labels: torch.Tensor, how: How) -> None:
    """Train `model` in place as `how` says."""
    rng = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), float(how.rate))
    steps = how.epochs * (len(images) // BATCH)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d) and how.norm_statistics == "kept":
            part.eval()  # moved statistics would scale every folded weight anew
    for _ in range(how.epochs):
        order = torch.randperm(len(images), generator=rng)
        for start in range(0, len(images) - BATCH + 1, BATCH):
            pick = order[start : start + BATCH]
            batch = augment(images[pick], rng) if how.augmentation else images[pick]
            loss = functional.cross_entropy(model(batch), labels[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()
    model.eval()


def accuracy(model: Net, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the share of `images` that `model` names as `labels` does."""
    with torch.no_grad():
        named = model(torch.from_numpy(images)).argmax(1).numpy()
    return float((named == labels).mean())


def split() -> tuple[dict[str, Part], str]:
    """Return the parts by name, and the digest of the whole data set.

    Every image is in exactly one of training, evaluation and live.
    """
    digits = load_digits()
    pixels, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    digest = hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes())
    images = (pixels / 16).astype(np.float32)[:, None]
    rest, evaluation = train_test_split(
        np.arange(len(labels)), test_size=EVALUATION, random_state=SEED, stratify=labels
    )
    training, live = train_test_split(
        rest, test_size=LIVE, random_state=SEED, stratify=labels[rest]
    )
    parts = {"training": training, "evaluation": evaluation, "live": live}
    return {k: (images[v], labels[v]) for k, v in parts.items()}, digest.hexdigest()


def environment() -> str:
    """Return the digest of the pins, after checking that exactly they are installed.

    Raises:
        SystemExit: Another version than the pinned one is installed.
    """
    pins = (HERE / "requirements.txt").read_text()
    for line in pins.split("\n"):
        name, _, version = line.partition("==")
        if version and importlib.metadata.version(name).split("+")[0] != version:
            sys.exit(f"{name} is not {version}: pip install -r requirements.txt")
    return hashlib.sha256(pins.encode()).hexdigest()


def export(model: Net, path: pathlib.Path) -> None:
    """Write `model` as fp32 ONNX; the exporter folds BatchNorm into the convolutions."""
    torch.onnx.export(
        model,
        torch.zeros(1, 1, 8, 8),
        str(path),
        input_names=["x"],
        output_names=["logits"],
        dynamo=False,
        opset_version=17,
        dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
    )


def report(name: str, model: Net, parts: dict[str, Part]) -> None:
    """Print the accuracy of `model` on clean and on drifted images."""
    live = [
        accuracy(model, drifted(parts["live"][0], rng), parts["live"][1])
        for rng in map(np.random.default_rng, range(DRIFT_SEED, DRIFT_SEED + DRIFT_ROUNDS))
    ]
    clean, pool = accuracy(model, *parts["evaluation"]), accuracy(model, *parts["live"])
    print(
        f"| {name} | {clean:.4f} | {pool:.4f} | {np.mean(live):.4f} "
        f"| {min(live):.4f} to {max(live):.4f} |"
    )


def main(out: pathlib.Path) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    out.mkdir(parents=True, exist_ok=True)
    parts, data = split()
    sources = {
        "code": hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest(),
        "data": data,
        "environment": environment(),
    }
    images, labels = (torch.from_numpy(a) for a in parts["training"])
    models: dict[str, Net] = {}
    print("| version | clean evaluation set | clean live pool | drifted live pool | over |")
    print("|---|---|---|---|---|")
    for name, how in VERSIONS.items():
        torch.manual_seed(SEED)
        models[name] = model = Net()
        if how.parent:
            model.load_state_dict(models[how.parent].state_dict())
        train(model, images, labels, how)
        report(name, model, parts)
        export(model, out / f"digits-{name}.onnx")
        parameters = dataclasses.asdict(how)
        parent = parameters.pop("parent")
        lineage = {
            **sources,
            "hyperparameters": parameters,
            "parent": parent,
            "seed": SEED,
        }
        text = json.dumps(lineage, indent=2, sort_keys=True) + "\n"
        (out / f"digits-{name}.lineage.json").write_text(text)
    for part, (x, y) in {
        "eval": parts["evaluation"],
        "live": parts["live"],
        "calibration": tuple(a[:CALIBRATION] for a in parts["training"]),
    }.items():
        np.savez_compressed(out / f"digits.{part}.npz", x=x, y=y)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
