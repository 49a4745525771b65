"""Drives a walk: files, server and clock. Runs in the child; decides nothing."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    RepositoryError,
)

from modelfleet_agent import fsio
from modelfleet_agent.clock import Clock
from modelfleet_agent.errors import AgentError
from modelfleet_agent.trust.checks import StrictError
from modelfleet_agent.trust.steps import Fetch, Read, Step, Walk, Write
from modelfleet_agent.web import Site, read_blocks

BLOCK = 1 << 16
GZIP = 16 + zlib.MAX_WBITS
HTTP_OK = 200

T = TypeVar("T")


class Shell:
    """The directory of an agent and its server. Used by one thread."""

    def __init__(self, directory: Path, site: Site, rising: Clock) -> None:
        """Prepare; nothing is done yet.

        Args:
            directory: Of the agent.
            site: The server.
            rising: Ms since the device booted.
        """
        self._directory = directory
        self._site = site
        self._rising = rising

    def drive(self, walk: Walk[T]) -> T:
        """Do what a walk asks for until it ends; return its result.

        Raises:
            RepositoryError, DownloadError, AgentError: As the walk.
        """
        try:
            step = walk.send(None)
            while True:
                try:
                    reply = self._do(step)
                except (RepositoryError, DownloadError, AgentError) as error:
                    step = walk.throw(error)
                else:
                    step = walk.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def _do(self, step: Step) -> bytes | int | None:
        if isinstance(step, Read):
            return self._read(step)
        if isinstance(step, Fetch):
            return self._fetch(step)
        if isinstance(step, Write):
            self._write(step)
            return None
        return self._rising()

    def _read(self, step: Read) -> bytes | None:
        try:
            return (self._directory / step.path).read_bytes()
        except OSError:  # it is fetched again
            return None

    def _write(self, step: Write) -> None:
        path = self._directory / step.path
        fsio.private_dir(path.parent)
        fsio.write_atomic(path, step.data, durable=step.durable)

    def _fetch(self, step: Fetch) -> bytes:
        headers = {"Accept-Encoding": "gzip"}
        with self._site.exchange("GET", step.path, headers=headers) as response:
            if response.status != HTTP_OK:
                response.read(BLOCK)
                what = f"{step.path}: {response.status}"
                raise DownloadHTTPError(what, response.status)
            blocks = read_blocks(response, BLOCK)
            packed = response.getheader("Content-Encoding") == "gzip"
            data = bytearray()
            for block in unpack(blocks, step.path) if packed else blocks:
                data += block
                if len(data) > step.limit:
                    what = f"{step.path} has more than {step.limit} bytes"
                    raise DownloadLengthMismatchError(what)
            return bytes(data)


def unpack(blocks: Iterator[bytes], url: str) -> Iterator[bytes]:
    """Yield what a gzip stream holds, never more than `BLOCK` bytes at once.

    Raises:
        StrictError: It is none, or it ends too early.
    """
    stream = zlib.decompressobj(wbits=GZIP)
    try:
        for block in blocks:
            rest = block
            while rest and not stream.eof:
                yield stream.decompress(rest, BLOCK)
                rest = stream.unconsumed_tail
    except zlib.error as error:
        raise StrictError(f"{url} is packed badly ({error})") from None
    if not stream.eof or stream.unused_data:
        raise StrictError(f"{url} is packed badly (it does not end where it should)")
