"""Just enough of an HTTP/1.1 client to ask one endpoint again and again."""

import asyncio
from typing import NamedTuple

TIMEOUT_S = 10.0
OK = 200


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes


class Connection:
    """One kept connection to a loopback port; opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, head: int | None = None) -> Answer:
        """Send a request and return the response.

        Args:
            path: Of the endpoint.
            body: JSON, and behind it the bytes of tensors.
            head: Length of the JSON, if there is more behind it.

        Raises:
            OSError: The endpoint cannot be reached, hung up or did not answer.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._exchange(path, body, head)
        except BaseException as error:
            self.close()
            if isinstance(error, asyncio.IncompleteReadError | asyncio.LimitOverrunError):
                raise ConnectionResetError("the endpoint hung up") from None
            raise

    def close(self) -> None:
        """Hang up."""
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def _exchange(self, path: str, body: bytes, head: int | None) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Content-Length: {len(body)}",
        ]
        if head is not None:
            lines.append(f"Inference-Header-Content-Length: {head}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(
            int(line.partition(":")[2])
            for line in headers
            if line.lower().startswith("content-length:")
        )
        answer = Answer(int(first.split(" ")[1]), await reader.readexactly(length))
        if any(line.lower() == "connection: close" for line in headers):
            self.close()
        return answer
