"""A client of its own: `python -m bench._agent_client ADDRESS PACE_MS SHAPE KIND`.

Sends one request of KIND `binary` or `json` after the other to ADDRESS, the path of a Unix
socket or a TCP port, every PACE_MS milliseconds (0: at once), until standard input ends;
then writes one JSON object: begin and end of each request in microseconds of the monotonic
clock, and how many failed.
"""

import json
import math
import select
import socket
import sys
import time

SEND_BUFFER = 4 << 20  # a large request leaves in one piece


def request(shape: list[int]) -> bytes:
    """Return an inference request with zeros."""
    size = 4
    for length in shape:
        size *= length
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": shape,
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": size},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    start = (
        "POST /v2/models/bench/infer HTTP/1.1\r\nHost: x\r\n"
        f"Inference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(head) + size}\r\n\r\n"
    )
    return start.encode() + head + bytes(size)


def json_request(shape: list[int]) -> bytes:
    """Return the same request with its tensor as JSON."""
    data = [0.0] * math.prod(shape)
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
    body = json.dumps({"inputs": [tensor]}).encode()
    start = (
        "POST /v2/models/bench/infer HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return start.encode() + body


def connect(address: str) -> socket.socket:
    """Return a connection to a TCP port of this machine or to a Unix socket."""
    if address.isdigit():
        one = socket.create_connection(("127.0.0.1", int(address)))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return one
    one = socket.socket(socket.AF_UNIX)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    one.connect(address)
    return one


def ask(one: socket.socket, body: bytes) -> bool:
    """Send and read the whole answer; say whether it is 200."""
    one.sendall(body)
    answer = one.recv(1 << 20)
    while b"\r\n\r\n" not in answer:
        answer += one.recv(1 << 20)
    head, _, rest = answer.partition(b"\r\n\r\n")
    at = head.lower().index(b"\r\ncontent-length:") + 17
    left = int(head[at:].split(b"\r\n")[0]) - len(rest)
    while left > 0:
        left -= len(one.recv(1 << 20))
    return head.startswith(b"HTTP/1.1 200 ")


KINDS = {"binary": request, "json": json_request}


def main() -> None:
    address, pace_us, shape = (
        sys.argv[1],
        float(sys.argv[2]) * 1000,
        json.loads(sys.argv[3]),
    )
    body = KINDS[sys.argv[4]](shape)
    spans, failed = [], 0
    with connect(address) as one:
        due = float(time.monotonic_ns() // 1000)
        while not select.select([sys.stdin], [], [], 0)[0]:
            due = max(due + pace_us, time.monotonic_ns() // 1000 - pace_us)
            wait = due - time.monotonic_ns() // 1000
            if pace_us and wait > 0:
                time.sleep(wait / 1e6)
            began = time.monotonic_ns() // 1000
            failed += not ask(one, body)
            spans.append((began, time.monotonic_ns() // 1000))
    json.dump({"spans": spans, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()
