"""The tools that make variants: their versions, and the lock file that names them all.

A variant's bytes depend on few packages and on what those depend on. The lock file has the
digests of all of them, so its own digest names the toolchain, as long as what is installed
is what it says. The wheel carries a copy of the lock file that it was built beside.
"""

import importlib.metadata
import re
from functools import cache
from pathlib import Path

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_server.builds.recipes import Tools

TOOLS = ("numpy", "onnx", "onnxruntime")
PLACES = (
    Path(__file__).with_name("requirements.lock"),  # in the wheel
    Path(__file__).parents[3] / "requirements.lock",  # in the repository
)
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)


def installed_tools() -> Tools:
    """Return the versions of all tools that take part in a build."""
    return {name: importlib.metadata.version(name) for name in TOOLS}


@cache
def lock_file() -> bytes:
    """Return the lock file's bytes, empty where there is none."""
    found = next((path for path in PLACES if path.is_file()), None)
    return b"" if found is None else found.read_bytes()


def toolchain_digest(tools: Tools, lock: bytes) -> str:
    """Name the tools by the lock file; by their versions where those are not of it.

    Args:
        tools: What is installed.
        lock: The lock file.
    """
    pinned = dict(_PINNED.findall(lock.decode()))
    if all(pinned.get(name) == version for name, version in tools.items()):
        return sha256(lock)
    return sha256(canonical(dict(tools)))


def strays(tools: Tools, lock: bytes) -> list[str]:
    """Say which tools are not of the version that the lock file names."""
    pinned = dict(_PINNED.findall(lock.decode()))
    return [
        f"{name} {version} and not {pinned.get(name, 'any')}"
        for name, version in sorted(tools.items())
        if pinned.get(name) != version
    ]
