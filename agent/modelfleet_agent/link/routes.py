"""Which network interface leads to an address, and whether its bytes cost money.

The kernel is asked by connecting a datagram socket: nothing is sent, and what it answers
follows every rule of its routing. Names of interfaces are all there is to know a metered
link by, so the operator's patterns decide; what cannot be found out counts as metered.
"""

import array
import fcntl
import socket
import struct
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from modelfleet_agent.settings.link import METERED

_SIOCGIFCONF = 0x8912
_ROOM = 128  # addresses that are looked at
_NAME = 16
_ROW = 40 if struct.calcsize("P") == 8 else 32  # noqa: PLR2004 - struct ifreq
_DISCARD = 9
_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address written as IPv6


def interface_to(host: str, port: int | None = None) -> str:
    """Return the name of the interface that leads to `host`; "" where none is known."""
    try:
        places = socket.getaddrinfo(host, port or _DISCARD, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ""
    for family, kind, _, _, address in places:
        try:
            with socket.socket(family, kind) as one:
                one.connect(address)
                return interface_of(str(one.getsockname()[0]))
        except OSError:
            continue  # no route for this family
    return ""


def interface_of(address: str) -> str:
    """Return the interface that has this address of the machine; "" where none has."""
    found = _ipv6(address) if ":" in address else _ipv4(address)
    return found or ("lo" if address.startswith("127.") else "")


def is_unmetered(
    host: str, port: int | None = None, *, metered: Iterable[str] = METERED
) -> bool:
    """Say whether bytes from `host` come over a link that is known not to be metered.

    Args:
        host: Name or address of the server, or of the proxy where one is between.
        port: Its port; no packet is sent to it.
        metered: Patterns of names of metered interfaces, such as `wwan*`.
    """
    name = interface_to(host, port)
    return bool(name) and not matches(name, metered)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Say whether an interface's name fits one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _ipv4(address: str) -> str:
    room = array.array("B", bytes(_ROW * _ROOM))
    ask = struct.pack("iP", len(room), room.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        used = struct.unpack("iP", fcntl.ioctl(one, _SIOCGIFCONF, ask))[0]
    for at in range(0, used, _ROW):
        row = bytes(room[at : at + _ROW])
        name, _, _ = row[:_NAME].partition(b"\0")
        if socket.inet_ntoa(row[_NAME + 4 : _NAME + 8]) == address:
            return name.decode().partition(":")[0]  # an alias is the interface
    return ""


def _ipv6(address: str) -> str:
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    if packed.startswith(_MAPPED):
        return interface_of(socket.inet_ntoa(packed[len(_MAPPED) :]))
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return ""
    rows = (line.split() for line in lines)
    return next((row[-1] for row in rows if row[0] == packed.hex()), "")
