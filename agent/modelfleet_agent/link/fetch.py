"""Downloads: from mirrors or the server, resumable, judged by the signed digest."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from modelfleet_agent.errors import AgentError, RefusedError, RetryableError
from modelfleet_agent.link.mirrors import Mirrors
from modelfleet_agent.link.partial import Partial, Progress, Rate
from modelfleet_agent.link.permit import LINK, Permit
from modelfleet_agent.link.ranges import NOT_FOUND, OK
from modelfleet_agent.link.transfer import Transfer
from modelfleet_agent.settings.link import LinkSettings
from modelfleet_agent.store import Store
from modelfleet_agent.web import Site
from modelfleet_manifests.header import Hex64
from modelfleet_manifests.release import Length, Name

# What may be wrong with one source while another has the file.
_ELSEWHERE = frozenset(
    {"E_UNREACHABLE", "E_CUT", "E_SLOW", "E_NOT_FOUND", "E_HTTP", "E_RANGE", LINK}
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Link:
    """What all downloads of a device share.

    Attributes:
        permit: The operator's rules.
        mirrors: Asked before the server.
        notice: Told of a mirror that lies.
    """

    permit: Permit
    mirrors: Mirrors
    notice: Callable[[AgentError], None]

    @classmethod
    def plain(cls, directory: Path) -> "Link":
        """Return a link without rules and mirrors."""
        return cls(Permit(LinkSettings(), directory), Mirrors(), lambda _error: None)


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
    """Fetches for one device into its store. Used by one thread at a time."""

    def __init__(
        self,
        server: str,
        token: str,
        store: Store,
        *,
        link: Link | None = None,
        reserve: int = 0,
        timeout_s: float = 15,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            server: Base URL.
            token: Bearer token of the device; mirrors never see it.
            store: Where files go.
            link: Rules and mirrors; none of both where not given.
            reserve: Bytes that stay free on the file system.
            timeout_s: The longest wait for a byte.
        """
        self._link = link or Link.plain(store.root)
        self._timeout_s = timeout_s
        self._site = self._open(server, token)
        self._sites = {server: self._site}
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
            HeldError: The device's rules say: not now.
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
        """Close the connections."""
        for site in self._sites.values():
            site.close()

    def _open(self, base: str, token: str = "") -> Site:
        proxy = self._link.permit.settings.proxy_for(base)
        return Site(base, token=token, timeout_s=self._timeout_s, proxy=proxy)

    def _begin(
        self,
        digest: str,
        length: int,
        cancel: threading.Event | None,
        progress: Progress | None,
    ) -> Partial:
        settings = self._link.permit.settings
        rate = Rate(settings.min_rate, settings.rate_window_s)
        path = self._store.incoming(digest)
        return Partial(digest, length, path, cancel, progress, rate)

    def _bring(self, download: Partial, take: Callable[[], object]) -> None:
        """Complete the partial file from one source or several, and `take` it."""
        try:
            download.resume()
            for base in self._link.mirrors.usable():
                if self._tried(base, download, take):
                    break
            else:
                self._from(self._site, download, take)
        except AgentError as error:
            error.data["received"] = download.received
            raise
        download.drop_note()

    def _tried(self, base: str, download: Partial, take: Callable[[], object]) -> bool:
        """Say whether a mirror gave the file; one that lies is left and told of."""
        site = self._sites.get(base) or self._open(base)
        self._sites[base] = site
        try:
            self._from(site, download, take)
        except RefusedError as error:
            self._link.mirrors.leave(base)
            what = f"the mirror {base} has other bytes than were signed: {error.what}"
            self._link.notice(RetryableError("E_MIRROR", what, mirror=base))
            return False
        except RetryableError as error:
            if error.code not in _ELSEWHERE:
                raise
            log.info("MF_MIRROR %s: %s", base, error)
            return False
        return True

    def _from(self, site: Site, download: Partial, take: Callable[[], object]) -> None:
        """Complete from one source; once more from zero where it is not to blame alone."""
        transfer = Transfer(site, self._link.permit, self._reserve)
        transfer.complete(download)
        alone = download.origins == {site.base}
        try:
            take()
        except RefusedError:
            download.drop()  # what is from before was never verified as a whole
            if alone:
                raise
            transfer.complete(download)
            take()


def _verify(download: Partial) -> None:
    found, length = download.found, download.have
    if (found, length) != (download.digest, download.length):
        download.drop()
        what = f"the patch {download.digest} has {length} bytes with digest {found}"
        raise RefusedError("E_DIGEST", what, expected=download.digest, found=found)
