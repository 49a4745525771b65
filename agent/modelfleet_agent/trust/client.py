"""python-tuf's client with our HTTP, our clock and strict JSON. Runs in the child.

The only place that touches what python-tuf keeps private: `_trusted_set` (clock, versions),
`_load_root` (the clock follows the roots), `_load_targets` (a delegated role by name), and
its `encode_canonical`, which makes two thirds of a cold client's work: ours gives the same
text ten times faster. `tests/agent/trust` notices a change.
"""

import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import (
    Metadata,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import json as tuf_json
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from modelfleet_agent import fsio
from modelfleet_agent.trust.checks import StrictError, check_json
from modelfleet_agent.web import Site, read_blocks
from modelfleet_manifests import tuf_keys as _register_nacl  # noqa: F401
from modelfleet_manifests.canonical import encode
from modelfleet_manifests.timetoken import MAX_BYTES

tuf_json.encode_canonical = encode  # type: ignore[assignment]  # the same text

BLOCK = 1 << 16
MAX_ROOTS = 4096
GZIP = 16 + zlib.MAX_WBITS
HTTP_OK = 200


class WebFetcher(FetcherInterface):
    """Fetches metadata over one kept connection; checks it before the library parses."""

    def __init__(self, site: Site) -> None:
        """Fetch below the base of `site`."""
        self._site = site

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(self._site.base)
        headers = {"Accept-Encoding": "gzip"}
        with self._site.exchange("GET", path, headers=headers) as response:
            if response.status != HTTP_OK:
                response.read(BLOCK)
                raise DownloadHTTPError(f"{url}: {response.status}", response.status)
            blocks = read_blocks(response, BLOCK)
            packed = response.getheader("Content-Encoding") == "gzip"
            yield from unpack(blocks, url) if packed else blocks

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return what is at `url`, at most `max_length` bytes of strict JSON.

        Raises:
            DownloadLengthMismatchError: It is longer.
            DownloadHTTPError: The server has none.
            StrictError: It is not the JSON that metadata may be.
        """
        data = super().download_bytes(url, max_length)
        check_json(data, url.rpartition("/")[2])
        return data


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


Tell = Callable[[Root], int]
"""Returns the least time that it is, Unix ms, under a verified root."""


class Client(Updater):
    """One refresh of the metadata of a fleet."""

    def __init__(self, directory: Path, site: Site, root: bytes, tell: Tell) -> None:
        """Begin with the fleet's first root.

        Args:
            directory: Of the agent; verified metadata is kept in `tuf/`.
            site: The server.
            root: The first root's metadata.
            tell: The clock's floor; asked once the chain of roots was walked.
        """
        self._tell = tell
        base = site.base.rstrip("/")
        self._fetch_bytes = WebFetcher(site).download_bytes
        self._targets_url = f"{base}/tuf/targets/"
        self._time_url = f"{base}/tuf/time/"
        super().__init__(
            metadata_dir=str(fsio.private_dir(directory / "tuf")),
            metadata_base_url=f"{base}/tuf/metadata/",
            fetcher=WebFetcher(site),
            # a chain of roots is walked from the first one on, each time
            config=UpdaterConfig(max_delegations=8, max_root_rotations=MAX_ROOTS),
            bootstrap=root,
        )

    def _load_root(self) -> None:
        # no expiry is judged before the newest root is known: the clock depends on it
        super()._load_root()
        self.set_time(self._tell(self.root))

    def set_time(self, now: int) -> None:
        """Judge expiry at `now`, Unix ms, from here on."""
        self._trusted_set.reference_time = datetime.fromtimestamp(now / 1000, UTC)

    @property
    def root(self) -> Root:
        """The newest verified root."""
        return self._trusted_set.root

    @property
    def timestamp(self) -> Timestamp:
        """The verified timestamp."""
        return self._trusted_set.timestamp

    @property
    def snapshot(self) -> Snapshot:
        """The verified snapshot."""
        return self._trusted_set.snapshot

    @property
    def targets(self) -> Targets:
        """The verified top-level targets."""
        return self._trusted_set.targets

    def verified(self, name: str) -> Signed | None:
        """Return a top-level role if it was verified, also where a refresh failed later."""
        try:
            return self._trusted_set[name]
        except KeyError:
            return None

    def load_role(self, name: str, parent: str) -> Targets:
        """Return the verified metadata of a delegated role.

        Raises:
            RepositoryError: It does not verify, has expired or is not in the snapshot.
            DownloadError: It cannot be fetched.
        """
        return self._load_targets(name, parent)

    def signers(self, name: str, above: Targets) -> frozenset[str]:
        """Return the public keys that signed a role which was loaded.

        The library says that there are enough of them and not which: the file that it kept
        is verified once more.
        """
        metadata: Metadata[Targets] = Metadata.from_bytes(self._load_local_metadata(name))
        result = above.get_verification_result(
            name, metadata.signed_bytes, metadata.signatures
        )
        return frozenset(str(key.keyval["public"]) for key in result.signed.values())

    def loaded(self, name: str, parent: str) -> Targets | None:
        """Return a role delegated by `parent` if a walk came by it."""
        if not self._trusted_set.contains(name, parent):
            return None
        role = self._trusted_set[name]
        return role if isinstance(role, Targets) else None

    def fetch_time(self, nonce: str) -> bytes:
        """Return the answer to a question for the time; nothing of it is verified.

        Raises:
            DownloadError: It cannot be fetched.
            StrictError: It is not even JSON.
        """
        return self._fetch_bytes(f"{self._time_url}{nonce}", MAX_BYTES)

    def fetch_target(self, info: TargetFile) -> bytes:
        """Return the verified bytes of a small target that is canonical JSON.

        Raises:
            RepositoryError: Other bytes than were signed.
            DownloadError: It cannot be fetched.
        """
        folder, _, name = info.path.rpartition("/")
        url = f"{self._targets_url}{folder}/{info.hashes['sha256']}.{name}"
        data = self._fetch_bytes(url, info.length)
        info.verify_length_and_hashes(data)
        return data
