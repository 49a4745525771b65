#!/usr/bin/env bash
# Make .venv with the given Python. Debian ships venv apart: install it where we may.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?usage: make_venv.sh PYTHON}

[ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null && exit 0
if ! command -v "$python" >/dev/null; then
  echo "modelfleet needs Python 3.11 or newer; say where: make PYTHON=/path/to/python3.12" >&2
  exit 1
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "$python is $("$python" -V); modelfleet needs Python 3.11 or newer" >&2
  exit 1
}
"$python" -m venv .venv 2>/dev/null && exit 0
rm -rf .venv
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing python$version-venv" >&2
  apt-get install -qq -y --no-install-recommends "python$version-venv" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "python$version-venv"; } >/dev/null
  "$python" -m venv .venv && exit 0
fi
echo "$python cannot make virtual environments: install the package python$version-venv" >&2
exit 1
