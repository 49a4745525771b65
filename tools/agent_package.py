"""`python tools/agent_package.py [--arch arm64]`: build the agent's Debian package.

Everything that the agent needs but Python itself is inside, pinned by
`requirements-agent.lock`, in wheels of the device's architecture; the machine that builds
needs no emulator. How a device changes versions is in `docs/agent.md`, "Upgrade".
"""

import argparse
import compileall
import gzip
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from modelfleet_agent.operations.unit import Unit

ROOT = Path(__file__).parents[1]
NAME = "modelfleet-agent"
PYTHON = "python3.11"
HOME = Path("/var/lib") / NAME
LIB = Path("usr/lib") / NAME
PLATFORMS = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's architectures that ONNX Runtime has wheels for, by Python's names."""
GLIBC = ("2_34", "2_28", "2_27", "2_26", "2_17", "2_5")
USELESS = (
    *("modelfleet_server", "bin", "numpy/tests"),
    *(
        f"onnxruntime/{part}"
        for part in ("transformers", "quantization", "tools", "datasets")
    ),
)
"""What is in the wheels and never imported on a device."""
OPTIONS = """\
# Words for `modelfleet-agent run`; see `modelfleet-agent run --help`.
MODELFLEET_AGENT_OPTIONS=""
"""


class PackageError(Exception):
    """The package cannot be built."""


def build(source: Path, out: Path, arch: str, compression: str = "xz") -> Path:
    """Build the package of the checkout `source`.

    Args:
        source: A checkout; its `pyproject.toml` has the version.
        out: A folder for the package, made where it is missing.
        arch: Debian's name of the device's architecture.
        compression: One that dpkg-deb knows; `none` is quick.

    Returns:
        `out/modelfleet-agent_VERSION_ARCH.deb`.

    Raises:
        PackageError: A tool is missing, or a part cannot be had for this architecture.
    """
    if arch not in PLATFORMS:
        known = ", ".join(PLATFORMS)
        raise PackageError(f"ONNX Runtime has no wheel for {arch}; known are {known}")
    if sys.version_info[:2] != (3, 11):
        raise PackageError(f"the package is for {PYTHON}: build it with that")
    if not shutil.which("dpkg-deb"):
        raise PackageError("dpkg-deb is missing: build on Debian, or install dpkg")
    version = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agent-package-") as scratch:
        tree = Path(scratch) / "tree"
        _lay(source, tree, version, arch)
        _control(source, tree, version, arch)
        package = out / f"{NAME}_{version}_{arch}.deb"
        made = package.with_suffix(".new")
        packer = ("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build")
        _run(*packer, str(tree), str(made))
        made.replace(package)
    return package


def _lay(source: Path, tree: Path, version: str, arch: str) -> None:
    home = tree / LIB
    home.mkdir(parents=True, mode=0o755)
    _install(source, home / "lib", arch)
    (home / "VERSION").write_text(f"{version}\n")
    (home / "PYTHON").write_text(f"{PYTHON}\n")
    shutil.copy2(source / "agent/package/launch", home / "launch")
    command = tree / "usr/bin" / NAME
    command.parent.mkdir(parents=True)
    command.symlink_to(Path("..") / LIB.relative_to("usr") / "launch")
    unit = Unit(
        directory=HOME,
        arguments=("$MODELFLEET_AGENT_OPTIONS",),
        program=(f"/{LIB}/launch",),
        options_file=f"/etc/default/{NAME}",
    )
    _write(tree / f"lib/systemd/system/{NAME}.service", unit.text())
    _write(tree / f"etc/default/{NAME}", OPTIONS)
    _write(tree / f"usr/share/doc/{NAME}/copyright", _copyright(home / "lib"))
    changes = gzip.compress((source / "docs/changelog.md").read_bytes(), mtime=0)
    (tree / f"usr/share/doc/{NAME}/changelog.gz").write_bytes(changes)


def _install(source: Path, lib: Path, arch: str) -> None:
    """Lay the agent and what it imports into one folder, as `PYTHONPATH` takes it."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    machine = PLATFORMS[arch]
    platforms = [f"--platform=manylinux_{glibc}_{machine}" for glibc in GLIBC]
    lock = str(source / "requirements-agent.lock")
    _run(
        *(*pip, "install", "--target", str(lib), "--require-hashes", "-r", lock),
        *("--no-deps", "--only-binary=:all:", "--no-compile"),
        *("--python-version=3.11", "--implementation=cp", *platforms),
        f"--platform=manylinux2014_{machine}",
    )
    with tempfile.TemporaryDirectory(prefix="agent-wheel-") as folder:
        _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, str(source))
        (wheel,) = Path(folder).glob("*.whl")
        _run(*pip, "install", "--no-deps", "--no-compile", "--target", str(lib), str(wheel))
    for useless in USELESS:
        shutil.rmtree(lib / useless, ignore_errors=True)
    # the device cannot write there, and a time in the file would make each build another
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(
        lib, quiet=2, stripdir=str(lib), invalidation_mode=unchecked, workers=0
    ):
        raise PackageError("something in the package does not compile")


def _copyright(lib: Path) -> str:
    """Return our licence and, for each part, where its own is."""
    listed = "".join(
        f"  /{LIB}/lib/{path.name}\n" for path in sorted(lib.glob("*.dist-info"))
    )
    ours = "modelfleet: Apache License, version 2.0 (/usr/share/common-licenses/Apache-2.0)"
    return f"{ours}\n\nThe licences of the parts are in\n{listed}"


def _control(source: Path, tree: Path, version: str, arch: str) -> None:
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    kib = sum(path.stat().st_size for path in files) // 1024
    folder = tree / "DEBIAN"
    folder.mkdir()
    (folder / "control").write_text(
        f"Package: {NAME}\n"
        f"Version: {version}\n"
        f"Architecture: {arch}\n"
        "Maintainer: modelfleet developers <modelfleet@localhost>\n"
        f"Installed-Size: {kib}\n"
        f"Depends: {PYTHON}, coreutils, passwd\n"
        "Section: net\n"
        "Priority: optional\n"
        "Description: runs the models that its fleet wants here\n"
        " Verifies signed releases, applies deltas, swaps models without a dropped\n"
        " request, and goes back to what worked before.\n"
    )
    (folder / "conffiles").write_text(f"/etc/default/{NAME}\n")
    (folder / "md5sums").write_text("".join(_sum(path, tree) for path in files))
    for name in ("preinst", "postinst", "prerm", "postrm"):
        shutil.copy2(source / "agent/package" / name, folder / name)


def _sum(path: Path, tree: Path) -> str:
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return f"{digest}  {path.relative_to(tree)}\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = re.sub(r"\s+", " ", (done.stderr or done.stdout)[-600:])
        raise PackageError(f"{Path(command[0]).name} failed: {tail}")


def main() -> int:
    """Build it; 1 with a line where that is not possible."""
    native = {name: arch for arch, name in PLATFORMS.items()}.get(os.uname().machine, "?")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default=native, help=f"{', '.join(PLATFORMS)}")
    parser.add_argument("--source", type=Path, default=ROOT, help="a checkout")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--compression", default="xz", help="as dpkg-deb names it")
    options = parser.parse_args()
    try:
        package = build(options.source, options.out, options.arch, options.compression)
    except PackageError as error:
        print(f"agent_package: {error}", file=sys.stderr)
        return 1
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
