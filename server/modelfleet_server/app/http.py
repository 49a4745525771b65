"""uvicorn in a thread of ours, on a socket that was bound before."""

import socket
import threading
import time

import uvicorn
from starlette.types import ASGIApp

from modelfleet_server.kit.errors import UnavailableError

START_S = 20
GRACE_S = 5
"""How long requests may go on after the wish to stop; streams are cut then."""


def bind(host: str, port: int) -> socket.socket:
    """Take an address; nobody can connect yet.

    Raises:
        UnavailableError: It is taken, not ours, or may not be used.
    """
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(kind, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "Stop what listens there, or choose another with --port (0: any free one).",
        ) from None
    return listener


class HttpThread:
    """Serves an application until `stop`."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="http", daemon=True
        )

    def start(self) -> None:
        """Begin to answer.

        Raises:
            UnavailableError: It did not come up.
        """
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise UnavailableError("the HTTP server did not start", "See the log.")
            time.sleep(0.005)

    def stop(self) -> None:
        """Answer what is in hand, at most `GRACE_S` seconds, and close."""
        self._server.should_exit = True
        self._thread.join(GRACE_S + 5)
        self._listener.close()
