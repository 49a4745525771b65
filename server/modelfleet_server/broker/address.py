"""Where a broker listens."""

from typing import NamedTuple
from urllib.parse import urlsplit

from modelfleet_server.kit.errors import InvalidError

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 1883


class Address(NamedTuple):
    """Host and TCP port of an MQTT listener without TLS."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"


def read_address(url: str) -> Address:
    """Return the address in `mqtt://host[:port]`; the port defaults to 1883.

    Raises:
        InvalidError: Another scheme, no host, or parts that an address has not.
    """
    hint = "Write mqtt://host:port, for example mqtt://127.0.0.1:1883."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidError(f"broker {url!r}: {error}", hint) from None
    if parts.scheme != "mqtt":
        raise InvalidError(f"broker {url!r}: the scheme must be mqtt", hint)
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidError(f"broker {url!r}: only host and port are understood", hint)
    if not parts.hostname:
        raise InvalidError(f"broker {url!r}: the host is missing", hint)
    return Address(parts.hostname, DEFAULT_PORT if port is None else port)
