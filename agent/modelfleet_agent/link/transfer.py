"""One file from one source: asked for by ranges, never past the signed length."""

import http.client
from dataclasses import dataclass
from http import HTTPStatus

from modelfleet_agent import fsio
from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import AgentError, RefusedError, RetryableError
from modelfleet_agent.link.partial import Partial
from modelfleet_agent.link.permit import Allowance, Permit
from modelfleet_agent.link.ranges import Reading, read_answer
from modelfleet_agent.web import Site, read_blocks

BLOCK = 1 << 16
# What came is made durable and proven after so many bytes, or so many seconds.
SYNC_EVERY = 8 << 20
SYNC_EVERY_S = 10.0
# So many attempts in one call end without a new byte before the caller is told.
PATIENCE = 2
WORTH = 1 << 16


@dataclass(frozen=True, slots=True)
class Transfer:
    """Completes partial files from one source. Used by one thread.

    Attributes:
        site: The source.
        permit: The operator's rules.
        reserve: Bytes that stay free on the file system.
    """

    site: Site
    permit: Permit
    reserve: int

    def complete(self, download: Partial) -> None:
        """Bring what is missing.

        Raises:
            RetryableError: The source, the disk or the rules are in the way.
            RefusedError: `E_LENGTH`: the source has other bytes.
        """
        fsio.require_space(
            download.path.parent, download.length - download.have, reserve=self.reserve
        )
        fruitless = 0
        try:
            while download.have < download.length or not download.path.exists():
                before = download.received
                try:
                    self._attempt(download)
                except RetryableError as error:
                    if error.code == "E_NO_SPACE":
                        download.drop()  # what stays free is worth more than a part
                    broken = error.code in {"E_CUT", "E_UNREACHABLE"}
                    fruitless = 0 if download.received - before >= WORTH else fruitless + 1
                    if not broken or fruitless >= PATIENCE:
                        raise
        finally:
            self.permit.settle()

    def _attempt(self, download: Partial) -> None:
        """Ask once for what is missing, and write what comes."""
        download.watch()
        download.check()
        allowance = self.permit.open(*self.site.place)
        have, note = download.have, download.note
        tag = note.etag if note.base == self.site.base else ""
        end = download.length
        if allowance.most is not None:
            end = min(end, have + allowance.most)
        fields = _range(have, end, download.length)
        if have and tag:
            fields["If-Range"] = tag
        path = f"/blobs/sha256/{download.digest}"
        with self.site.exchange("GET", path, headers=fields) as response:
            headers = {name.lower(): text for name, text in response.headers.items()}
            reading = read_answer(
                response.status, headers, (have, end), download.length, tag
            )
            if reading in {Reading.APPEND, Reading.RESTART}:
                start = have if reading is Reading.APPEND else 0
                download.begin(self.site.base, headers.get("etag", ""), keep=start)
                self._write(download, response, allowance, start)
                return
        if reading is not Reading.AGAIN or download.restarted:
            raise _objection(reading, response.status, download)
        download.restarted = True
        download.drop()

    def _write(
        self,
        download: Partial,
        response: http.client.HTTPResponse,
        allowance: Allowance,
        start: int,
    ) -> None:
        with fsio.Appender(download.path, keep=start) as file:
            done = synced = start
            at = monotonic_s()
            try:
                for block in read_blocks(response, BLOCK):
                    if done + len(block) > download.length:
                        raise too_long(download)
                    file.write(block)
                    done += len(block)
                    download.add(block)
                    if done - synced >= SYNC_EVERY or monotonic_s() - at >= SYNC_EVERY_S:
                        file.sync()
                        download.prove(done)
                        synced, at = done, monotonic_s()
                    if download.progress is not None:
                        download.progress(done, download.length)
                    if done < download.length:
                        allowance.take(len(block))
                        download.check()
                    else:
                        allowance.count(len(block))
            finally:
                file.sync()
                if done < download.length and download.path.exists():
                    download.prove(done)
            if done < download.length and response.status == HTTPStatus.OK:
                # a body without a length, such as a chunked one
                raise http.client.IncompleteRead(b"", download.length - done)


def _range(have: int, end: int, length: int) -> dict[str, str]:
    if end < length:
        return {"Range": f"bytes={have}-{end - 1}"}
    return {"Range": f"bytes={have}-"} if have else {}


def too_long(download: Partial) -> RefusedError:
    """Return the refusal of a source that has more bytes than were signed."""
    download.drop()
    what = f"{download.digest}: the server has another length than the signed one"
    return RefusedError("E_LENGTH", what, length=download.length)


def _objection(reading: Reading, status: int, download: Partial) -> AgentError:
    what = f"the server answers {status} for {download.digest}"
    if reading is Reading.TOO_LONG:
        return too_long(download)
    codes = {Reading.NOT_FOUND: "E_NOT_FOUND", Reading.AGAIN: "E_RANGE"}
    return RetryableError(codes.get(reading, "E_HTTP"), what, status=status)
