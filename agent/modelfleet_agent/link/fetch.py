"""Downloads: ranged, resumable, never past the signed length, judged by the digest."""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from modelfleet_agent import fsio
from modelfleet_agent.errors import AgentError, RefusedError, RetryableError
from modelfleet_agent.link.partial import Partial, Progress
from modelfleet_agent.link.ranges import NOT_FOUND, OK, Reading, read_answer
from modelfleet_agent.store import Store
from modelfleet_agent.web import Site, read_blocks
from modelfleet_manifests.header import Hex64
from modelfleet_manifests.release import Length, Name

BLOCK = 1 << 16
SYNC_EVERY = 8 << 20
# So many attempts in one call end without a new byte before the caller is told.
PATIENCE = 2
WORTH = 1 << 16


class DeltaOffer(msgspec.Struct, frozen=True):
    """A patch that the server offers; unsigned, its result is what counts.

    Attributes:
        blob: SHA-256 of the patch.
        length: Its bytes.
        method: Name of the method, for reports.
        memory: Bytes that applying it takes.
    """

    blob: Hex64
    length: Length
    method: Name
    memory: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified file.

    Attributes:
        path: Where it is.
        received: Bytes that came over the network in this call.
        resumed: Bytes that were there already.
    """

    path: Path
    received: int
    resumed: int


class Fetcher:
    """Fetches from one server into a store. Used by one thread at a time."""

    def __init__(
        self,
        server: str,
        token: str,
        store: Store,
        *,
        reserve: int = 0,
        timeout_s: float = 15,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            server: Base URL.
            token: Bearer token of the device.
            store: Where files go.
            reserve: Bytes that stay free on the file system.
            timeout_s: The longest wait for a byte.
        """
        self._site = Site(server, token=token, timeout_s=timeout_s)
        self._store = store
        self._reserve = reserve

    def fetch_file(
        self,
        digest: str,
        length: int,
        *,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> Fetched:
        """Bring the file `digest` into the store. Idempotent; goes on where it was cut.

        Args:
            digest: SHA-256 that was signed.
            length: Bytes that were signed.
            cancel: Set by another thread to stop; noticed at the next block, or after
                `timeout_s` where none comes.
            progress: Told after every block.

        Raises:
            RetryableError: `E_UNREACHABLE`, `E_CUT`, `E_SLOW`, `E_NOT_FOUND`, `E_HTTP`,
                `E_RANGE`, `E_NO_SPACE`, `E_CANCELLED`, …; `data["received"]` says how many
                bytes came in this call.
            RefusedError: `E_LENGTH` or `E_DIGEST`: the server has other bytes.
        """
        target = self._store.path_of(digest)
        if target.is_file() and target.stat().st_size == length:
            return Fetched(target, 0, length)
        download = self._begin(digest, length, cancel, progress)
        self._bring(download, lambda: self._store.adopt(digest, length))
        return Fetched(target, download.received, download.resumed)

    def fetch_patch(
        self,
        offer: DeltaOffer,
        *,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> Fetched:
        """Bring a patch into `incoming`; the caller removes it. Raises as `fetch_file`."""
        download = self._begin(offer.blob, offer.length, cancel, progress)
        self._bring(download, lambda: _verify(download))
        return Fetched(download.path, download.received, download.resumed)

    def get_delta_offer(self, new: str, old: str) -> DeltaOffer | None:
        """Return the server's patch from the file `old` to `new`, or None.

        Raises:
            RetryableError: The server cannot be asked, or answers nonsense.
        """
        path = f"/deltas/{self._store.path_of(new).name}/{self._store.path_of(old).name}"
        status, value = self._site.ask("GET", path)
        if status == NOT_FOUND:
            return None
        if status != OK:
            raise RetryableError("E_HTTP", f"{path}: status {status}", status=status)
        try:
            return msgspec.convert(value, DeltaOffer)
        except msgspec.ValidationError as error:
            raise RetryableError("E_ANSWER", f"{path} is no offer: {error}") from None

    def close(self) -> None:
        """Close the connection."""
        self._site.close()

    def _begin(
        self,
        digest: str,
        length: int,
        cancel: threading.Event | None,
        progress: Progress | None,
    ) -> Partial:
        path = self._store.incoming(digest)
        return Partial(digest, length, path, cancel, progress)

    def _bring(self, download: Partial, take: Callable[[], object]) -> None:
        """Complete the partial file, then `take` it; once more from zero if it resumed."""
        download.resumed = download.have
        try:
            self._complete(download)
            try:
                take()
            except RefusedError:
                if not download.resumed:
                    raise
                # What lay here from before a power cut may be bad: it was never verified.
                download.resumed = 0
                download.drop()
                self._complete(download)
                take()
        except AgentError as error:
            error.data["received"] = download.received
            raise
        download.drop_tag()

    def _complete(self, download: Partial) -> None:
        fsio.require_space(
            download.path.parent, download.length - download.have, reserve=self._reserve
        )
        fruitless = 0
        while download.have < download.length or not download.path.exists():
            before = download.received
            try:
                self._attempt(download)
            except RetryableError as error:
                if error.code == "E_NO_SPACE":
                    download.drop()  # what stays free is worth more than a part of a file
                broken = error.code in {"E_CUT", "E_UNREACHABLE"}
                fruitless = 0 if download.received - before >= WORTH else fruitless + 1
                if not broken or fruitless >= PATIENCE:
                    raise

    def _attempt(self, download: Partial) -> None:
        """Ask once for what is missing, and write what comes."""
        download.check()
        have, tag = download.have, download.read_tag()
        fields = {"Range": f"bytes={have}-"} if have else {}
        if have and tag:
            fields["If-Range"] = tag
        path = f"/blobs/sha256/{download.digest}"
        with self._site.exchange("GET", path, headers=fields) as response:
            headers = {name.lower(): text for name, text in response.headers.items()}
            reading = read_answer(response.status, headers, have, download.length, tag)
            if reading in {Reading.APPEND, Reading.RESTART}:
                self._write(download, response, have if reading is Reading.APPEND else 0)
                return
        if reading is not Reading.AGAIN or download.restarted:
            raise _objection(reading, response.status, download)
        download.restarted = True
        download.resumed = 0
        download.drop()

    def _write(
        self, download: Partial, response: http.client.HTTPResponse, start: int
    ) -> None:
        if start == 0:
            download.resumed = 0
            download.keep_tag(response.headers.get("ETag", ""))
        with fsio.Appender(download.path, keep=start) as file:
            done = synced = start
            try:
                for block in read_blocks(response, BLOCK):
                    if done + len(block) > download.length:
                        raise _too_long(download)
                    file.write(block)
                    done += len(block)
                    download.received += len(block)
                    if done - synced >= SYNC_EVERY:
                        file.sync()
                        synced = done
                    if download.progress is not None:
                        download.progress(done, download.length)
                    download.check()
            finally:
                file.sync()
        if done < download.length:  # a body without a length, such as a chunked one
            raise http.client.IncompleteRead(b"", download.length - done)


def _verify(download: Partial) -> None:
    found, length = fsio.hash_file(download.path)
    if (found, length) != (download.digest, download.length):
        download.drop()
        what = f"the patch {download.digest} has {length} bytes with digest {found}"
        raise RefusedError("E_DIGEST", what, expected=download.digest, found=found)


def _too_long(download: Partial) -> RefusedError:
    download.drop()
    what = f"{download.digest}: the server has another length than the signed one"
    return RefusedError("E_LENGTH", what, length=download.length)


def _objection(reading: Reading, status: int, download: Partial) -> AgentError:
    what = f"the server answers {status} for {download.digest}"
    if reading is Reading.TOO_LONG:
        return _too_long(download)
    codes = {Reading.NOT_FOUND: "E_NOT_FOUND", Reading.AGAIN: "E_RANGE"}
    return RetryableError(codes.get(reading, "E_HTTP"), what, status=status)
