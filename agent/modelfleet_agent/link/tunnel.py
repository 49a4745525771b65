"""A connection through an HTTP proxy, for what is not HTTP: `CONNECT`."""

import http.client
import socket
from urllib.parse import urlsplit

from modelfleet_agent.web import PROXY_PORT, proxy_credentials


def connect(proxy: str, host: str, port: int, *, timeout_s: float) -> socket.socket:
    """Return a connection to `host`; straight where `proxy` is empty.

    The other side must not speak first: what it says with the proxy's answer is lost.

    Args:
        proxy: `http://[user:password@]host:port`, or "".
        host: Looked up by the proxy.
        port: Of it.
        timeout_s: The longest wait, then and later on.

    Raises:
        OSError: There is no way, or the proxy refuses.
    """
    if not proxy:
        return socket.create_connection((host, port), timeout_s)
    parts = urlsplit(proxy)
    place = parts.hostname or "", parts.port or PROXY_PORT
    one = http.client.HTTPConnection(*place, timeout=timeout_s)
    one.set_tunnel(host, port, proxy_credentials(parts))
    try:
        one.connect()
    except OSError:
        one.close()
        raise
    except http.client.HTTPException as error:
        one.close()
        what = f"the proxy speaks no HTTP ({type(error).__name__})"
        raise OSError(what) from error
    return one.sock
