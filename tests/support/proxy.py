"""What stands between a client and a server: an HTTP proxy, a relay of bytes."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """A small HTTP proxy: relays plain requests, and connects tunnels.

    Attributes:
        heads: What clients asked, head by head.
    """

    port: int = 0
    heads: list[str] = field(default_factory=list)


@contextlib.contextmanager
def proxying() -> Iterator[Proxy]:
    """Run a proxy on a port of this machine."""
    proxy = Proxy()
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy.port = server.getsockname()[1]
        ears = [
            threading.Thread(target=_serve, args=(server, proxy), daemon=True)
            for _ in range(4)
        ]
        for one in ears:
            one.start()
        yield proxy


def _serve(server: socket.socket, proxy: Proxy) -> None:
    while True:
        try:
            client = server.accept()[0]
        except OSError:
            return
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            proxy.heads.append(head.decode())
            method, target, _ = head.decode().split(" ", 2)
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
                with socket.create_connection((host, int(port))) as there:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    relay(client, there)
                continue
            host, _, path = target.removeprefix("http://").partition("/")
            name, _, port = host.partition(":")
            with socket.create_connection((name, int(port))) as there:
                asked = head.replace(target.encode(), f"/{path}".encode(), 1)
                # one request for each connection: the next one may be for another host
                asked = asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                there.sendall(asked)
                relay(client, there)


def relay(one: socket.socket, other: socket.socket, *, mute: bool = False) -> None:
    """Pass on what is said until one hangs up; `mute`: of `other` the first words only."""
    heard = False
    with contextlib.suppress(ConnectionError):
        while True:
            for ready in select.select([one, other], [], [], 5)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                if ready is one:
                    other.sendall(data)
                elif not (mute and heard):
                    heard = True
                    one.sendall(data)
