#!/usr/bin/env bash
# Make a root directory of 64-bit ARM programs that QEMU's user mode runs on this machine,
# and print its path: Debian's Python, and the packages of the agent and its tests.
#
#   tools/arm64_root.sh                  make it (or find it made) and print the path
#   ROOT/bin/modelfleet-python-aarch64   starts Python of the root; a program of this machine
#   QEMU_CPU=cortex-a72                  cortex-a53, cortex-a72 or cortex-a76 (if unset)
#
# No root rights, no binfmt, no chroot: packages are downloaded with lists of their own and
# unpacked, wheels are chosen for aarch64. Everything lies below .cache. Where it cannot be
# made, it says why on standard error and ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ROOT="$PWD/.cache/arm64/root" APT="$PWD/.cache/arm64/apt"
readonly PYTHON="${PYTHON:-.venv/bin/python}"
# what Python's packages link against beside what python3 needs itself
readonly PACKAGES=(python3 libstdc++6 libgomp1 libatomic1 ca-certificates)
# requirements of the agent as its wheel asks for them, and what its tests need
readonly TESTS=(pytest pytest-asyncio pytest-timeout pytest-xdist hypothesis onnx pyyaml)
fail() {
  echo "arm64_root.sh: $*" >&2
  exit 1
}

emulator() { # print the QEMU that is there
  command -v qemu-aarch64-static || command -v qemu-aarch64 ||
    { PATH="$PATH:$PWD/.cache/system/bin" command -v qemu-aarch64-static; }
}

wanted() { # the names that pyproject.toml gives the agent, and the tests' own
  "$PYTHON" - "${TESTS[@]}" <<'PY'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
for name in (*project["dependencies"], *project["optional-dependencies"]["agent"], *sys.argv[1:]):
    print(name)
PY
}

versions() { # of everything, without hashes: those are of all platforms
  sed -nE 's/^([A-Za-z0-9_.-]+==[^ \\]+).*/\1/p' requirements-dev.lock
}

apt_arm() { # apt_arm TOOL ARGUMENTS...: APT for another architecture, with lists of its own
  local tool=$1
  shift
  "$tool" -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
    -o Dir::State="$APT/state" -o Dir::State::status="$APT/state/status" \
    -o Dir::Cache="$APT/cache" -o APT::Get::List-Cleanup=0 -o Debug::NoLocking=1 \
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none "$@"
}

unpack_debian() { # the packages and all that they need, into $1
  local root=$1 needed
  mkdir -p "$APT/state/lists/partial" "$APT/cache/archives/partial" "$APT/packages"
  : >"$APT/state/status" # nothing is installed
  # a source that has nothing for ARM is no reason to fail: what is missing is seen below
  apt_arm apt-get update -qq >"$APT/log" 2>&1 || true
  needed=$(LC_ALL=C apt_arm apt-get install --simulate --no-install-recommends \
    "${PACKAGES[@]}" 2>>"$APT/log" | awk '$1 == "Inst" { print $2 }')
  [ -n "$needed" ] || fail "APT cannot resolve ${PACKAGES[*]} for arm64 (see $APT/log)"
  # shellcheck disable=SC2086 # one word per package
  (cd "$APT/packages" && apt_arm apt-get download $needed >>"$APT/log" 2>&1) ||
    fail "the packages for arm64 could not be downloaded (see $APT/log)"
  # a merged /usr from the start, else unpacking makes /lib a directory
  mkdir -p "$root"/usr/{bin,sbin,lib} && (cd "$root" && ln -s usr/bin usr/sbin usr/lib .)
  local deb
  for deb in "$APT"/packages/*.deb; do
    # by tar: dpkg -x would replace the links to /usr by directories
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink
  done
}

install_wheels() { # into $1, of the versions that the lock file names
  local root=$1 version versions
  version=$(basename "$(readlink "$root/usr/bin/python3")")
  versions="$APT/versions.txt"
  versions >"$versions"
  wanted >"$APT/wanted.txt"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-compile \
    --target "$root/usr/lib/python3/dist-packages" --upgrade --only-binary=:all: \
    --implementation cp --python-version "${version#python}" --abi "cp${version/python3./3}" \
    --abi abi3 --abi none \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux_2_26_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --platform any \
    -c "$versions" -r "$APT/wanted.txt" >"$APT/pip.log" 2>&1 ||
    fail "the wheels for aarch64 could not be had (see $APT/pip.log)"
}

describe_cpu() { # describe_cpu ROOT NAME PART FEATURE...: what /proc/cpuinfo says on one
  # a program asks the kernel, and the kernel here is another machine's: ONNX Runtime ends
  # by a segmentation fault when it reads of x86. QEMU prefers a file below its prefix.
  local root=$1 name=$2 part=$3 number
  shift 3
  mkdir -p "$root/cpus/$name/proc" "$root/cpus/$name/sys"
  (cd "$root/cpus/$name" && ln -s ../../usr ../../bin ../../lib ../../sbin ../../etc .)
  for number in 0 1; do
    printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: %s\n' "$number" "$*"
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n'
    printf 'CPU part\t: %s\nCPU revision\t: 3\n\n' "$part"
  done >"$root/cpus/$name/proc/cpuinfo"
}

write_python() { # a program of this machine: what it starts believes that it is Python itself
  local root=$1 plain=(fp asimd evtstrm crc32 cpuid)
  describe_cpu "$root" cortex-a53 0xd03 "${plain[@]}"
  describe_cpu "$root" cortex-a72 0xd08 "${plain[@]}"
  describe_cpu "$root" cortex-a76 0xd0b "${plain[@]}" aes pmull sha1 sha2 atomics fphp \
    asimdhp asimdrdm lrcpc dcpop asimddp
  cat >"$root/bin/modelfleet-python-aarch64" <<SH
#!/bin/sh
# -0: sys.executable is this file, so that children are started by it too
export PYTHONHOME="$ROOT/usr" QEMU_CPU="\${QEMU_CPU:-cortex-a76}"
exec "$(emulator)" -0 "$ROOT/bin/modelfleet-python-aarch64" -L "$ROOT/cpus/\$QEMU_CPU" \\
  "$ROOT/usr/bin/python3" "\$@"
SH
  chmod +x "$root/bin/modelfleet-python-aarch64"
}

# changes when what belongs into the root changes
VERSION=$({ cat "$0"; wanted; versions; } | sha256sum | cut -c -16)
readonly VERSION
emulator >/dev/null || fail "qemu-aarch64 is missing: install Debian's qemu-user-static"
if [ "$(cat "$ROOT/.made" 2>/dev/null)" != "$VERSION" ]; then
  command -v dpkg-deb >/dev/null && command -v apt-get >/dev/null || fail "no Debian here"
  rm -rf "$ROOT" "$ROOT.new" "$APT"
  unpack_debian "$ROOT.new"
  install_wheels "$ROOT.new"
  write_python "$ROOT.new"
  echo "$VERSION" >"$ROOT.new/.made"
  mv "$ROOT.new" "$ROOT"
  rm -rf "$APT/cache" "$APT/packages"
  "$ROOT/bin/modelfleet-python-aarch64" -c "import onnxruntime, msgspec, sqlite3, ssl" ||
    { rm -rf "$ROOT"; fail "its Python does not start"; }
fi
echo "$ROOT"
