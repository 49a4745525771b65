"""What an extra brings: counted, since each package costs memory on every device."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVER_ONLY = {
    "fastapi", "starlette", "uvicorn", "sqlmodel", "sqlalchemy", "alembic", "pydantic",
    "jinja2", "typer", "rich", "obstore", "onnx", "iotcore", "argon2-cffi", "httpx2",
}  # fmt: skip


def closure(names: list[str]) -> set[str]:
    """Return the packages that a list of requirements brings along."""
    found: set[str] = set()
    queue = [Requirement(text) for text in names]
    while queue:
        one = queue.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if name in found or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            queue += [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue  # for another platform
    return found


def test_the_agents_extra_brings_nothing_of_the_server() -> None:
    agent = closure(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["agent"])
    assert {"paho-mqtt", "onnxruntime", "pynacl", "tuf"} <= agent
    assert agent & SERVER_ONLY == set()


def test_the_training_script_has_requirements_of_its_own() -> None:
    extras = PROJECT["optional-dependencies"].values()
    everything = closure(PROJECT["dependencies"] + [one for them in extras for one in them])
    assert everything & {"torch", "scikit-learn"} == set()


def test_the_locks_name_no_registry_and_pin_every_package_by_hash() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        packages = re.findall(r"^[a-z0-9].*==", text, re.MULTILINE)
        assert packages
        assert text.count("--hash=sha256:") >= len(packages)
