#!/usr/bin/env bash
# Bring the system programs that only tests need: Mosquitto, PostgreSQL, Chromium; and QEMU's user
# mode, which builds use where it is there, to score variants as other processors compute.
#
# Each one: found on PATH or in /usr/sbin; else installed from Debian's packages when root;
# else unpacked below .cache without root; else skipped by name, which is no failure here
# (the tests that need it are skipped by name too, and fail where CI is set).
# tests/support/system.py looks in the same places.
set -uo pipefail
cd "$(dirname "$0")/.."

readonly UNPACKED="$PWD/.cache/system"
PATH="$PATH:/usr/sbin:/usr/local/sbin:$UNPACKED/bin"
reason=""

found() { # found PROGRAM...: print the first that is there
  local program
  for program in "$@"; do
    command -v "$program" && return
  done
  return 1
}

is_known() { # is_known PACKAGE: whether apt has heard of it; root may ask for news once
  apt-cache show "$1" >/dev/null 2>&1 || { update_as_root && apt-cache show "$1" >/dev/null 2>&1; }
}

update_as_root() {
  [ "$(id -u)" = 0 ] && timeout 300 apt-get update -qq >/dev/null 2>&1
}

install() { # install PACKAGE, quietly
  DEBIAN_FRONTEND=noninteractive timeout 900 \
    apt-get install -qq -y --no-install-recommends "$1" >/dev/null 2>&1
}

install_as_root() { # install_as_root PACKAGE; old package lists name files that are gone
  [ "$(id -u)" = 0 ] || return 1
  install "$1" || { update_as_root && install "$1"; } && return
  reason="apt-get install $1 failed"
  return 1
}

missing_packages() { # the package and all it needs, transitively, that are not installed
  LC_ALL=C apt-get install --simulate --no-install-recommends "$1" 2>/dev/null |
    awk '$1 == "Inst" { print $2 }'
}

unpack() { # unpack PACKAGE PROGRAM: into .cache, with a wrapper that finds its libraries
  fetch "$1" && write_wrapper "$UNPACKED/$1/root" "$2"
}

fetch() { # fetch PACKAGE: it and what it needs, into .cache
  local package=$1 folder="$UNPACKED/$1" needed
  needed=$(missing_packages "$package")
  [ -n "$needed" ] || { reason="apt cannot resolve $package"; return 1; }
  rm -rf "$folder" && mkdir -p "$folder/packages" "$folder/root" "$UNPACKED/bin" || return 1
  # shellcheck disable=SC2086 # one word per package
  (cd "$folder/packages" && timeout 600 apt-get download $needed >/dev/null 2>&1) ||
    { reason="apt-get download $package failed"; return 1; }
  local deb
  for deb in "$folder"/packages/*.deb; do
    dpkg -x "$deb" "$folder/root" || { reason="cannot unpack $(basename "$deb")"; return 1; }
  done
  rm -rf "$folder/packages"
}

write_wrapper() { # write_wrapper ROOT PROGRAM
  local root=$1 program=$2 target libraries
  # the real program rather than Debian's start script, which looks below /usr/lib
  target=$(find "$root/usr/lib/$program/$program" "$root/usr/sbin/$program" \
    "$root/usr/bin/$program" -type f -perm -u+x 2>/dev/null | head -n 1)
  [ -n "$target" ] || { reason="no program $program in the package"; return 1; }
  libraries=$(find "$root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
  printf '#!/bin/sh\nLD_LIBRARY_PATH="%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "%s" "$@"\n' \
    "$libraries" "$target" >"$UNPACKED/bin/$program"
  chmod +x "$UNPACKED/bin/$program"
}

works() { # works PROGRAM: it starts and knows its version or its help
  "$1" --version >/dev/null 2>&1 && return
  [[ "$("$1" -h 2>&1)" == *version* ]] # Mosquitto ends with 3 after its help
}

bring() { # bring PACKAGE PROGRAM...: say in one line what became of it
  local package=$1 place
  shift
  reason=""
  if place=$(found "$@"); then
    echo "found: $package ($place)"
    return
  fi
  if ! command -v apt-get >/dev/null || ! is_known "$package"; then
    reason="no Debian package of that name within reach"
  elif install_as_root "$package" || unpack "$package" "$1"; then
    if place=$(found "$@") && works "$place"; then
      echo "brought: $package ($place)"
      return
    fi
    reason="it was brought and does not start"
    rm -f "$UNPACKED/bin/$1"
  fi
  echo "skipped: $package (${reason:-unknown})"
}

find_postgresql() { # print a directory with initdb, the newest first
  ls -d /usr/lib/postgresql/*/bin "$UNPACKED"/postgresql/root/usr/lib/postgresql/*/bin 2>/dev/null |
    sort -rV | head -n 1
}

bring_postgresql() { # always unpacked, never installed: Debian's package starts a server
  local package
  if command -v initdb >/dev/null || [ -n "$(find_postgresql)" ]; then
    echo "found: postgresql ($(command -v initdb || find_postgresql))"
    return
  fi
  package=$(apt-cache depends postgresql 2>/dev/null | grep -o 'postgresql-[0-9]*$' | head -n 1)
  reason="no Debian package of that name within reach"
  if [ -n "$package" ] && fetch "$package"; then
    rm -rf "$UNPACKED/postgresql" && mv "$UNPACKED/$package" "$UNPACKED/postgresql"
    [ -n "$(find_postgresql)" ] && { echo "brought: postgresql ($(find_postgresql))"; return; }
    reason="it was brought and has no initdb"
  fi
  echo "skipped: postgresql ($reason)"
}

bring mosquitto mosquitto
bring_postgresql
bring chromium chromium chromium-browser google-chrome
bring qemu-user-static qemu-x86_64-static qemu-x86_64
# unpacked, one package has both
readonly QEMU="$UNPACKED/qemu-user-static/root"
[ -d "$QEMU" ] && write_wrapper "$QEMU" qemu-aarch64-static
exit 0
