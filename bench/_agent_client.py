"""A client in a process of its own: `python -m bench._agent_client SOCKET PACE_MS SHAPE`.

Sends one binary request after the other over the Unix socket, every PACE_MS milliseconds
(0: at once), until standard input ends; then writes one JSON object: begin and end of each
request in microseconds of the monotonic clock, and how many failed.
"""

import json
import select
import socket
import sys
import time


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


def main() -> None:
    path, pace_us, shape = sys.argv[1], float(sys.argv[2]) * 1000, json.loads(sys.argv[3])
    body, spans, failed = request(shape), [], 0
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
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
