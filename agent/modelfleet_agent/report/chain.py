"""The chain: each report carries its number and the digest of the one before it.

`chain.json` says where the next link belongs. It is written after the report itself, so a
report that a power cut left without it is counted when the outbox is read.
"""

import hashlib
import logging
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_manifests.report import FIRST

NAME = "chain.json"

log = logging.getLogger(__name__)


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What comes next.

    Attributes:
        incarnation: Of the device; another one begins a new chain.
        seq: Number of the next report; the first is 1.
        prev: Digest of the payload before it, zeros at first.
        batch: Number of the next telemetry batch.
    """

    incarnation: int
    seq: int = 1
    prev: str = FIRST
    batch: int = 1


class _Page(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: a place and its digest, since a flipped bit may still be a place."""

    place: Place
    sha256: str


class Chain:
    """The durable place of the next report in `folder`. Used by one thread.

    Attributes:
        place: What comes next.
        lost: The file was damaged, so the numbers began again.
    """

    def __init__(self, folder: Path, incarnation: int) -> None:
        """Read the place, or begin a chain where there is none of this incarnation."""
        self._path = folder / NAME
        self.place = Place(incarnation=incarnation)
        self.lost = False
        try:
            page = msgspec.json.decode(self._path.read_bytes(), type=_Page)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as error:
            log.warning("MF_DAMAGED %s (%s): the chain begins again", self._path, error)
            self.lost = True
            return
        if page.sha256 != _digest(page.place):
            log.warning("MF_DAMAGED %s: the chain begins again", self._path)
            self.lost = True
        elif page.place.incarnation == incarnation:
            self.place = page.place

    def advance(self, digest: str, seq: int | None = None) -> None:
        """Note durably that the next report comes behind the payload `digest`.

        Args:
            digest: Of the payload of the report that was just kept.
            seq: Its number; the current one where not given.
        """
        done = self.place.seq if seq is None else seq
        self._keep(msgspec.structs.replace(self.place, seq=done + 1, prev=digest))

    def skip_to(self, seq: int) -> None:
        """Go on behind a number that the server has, after the own ones were lost.

        One number is left out: the server then sees a gap, which is what a device has that
        lost its disk, and not a fork, which is what a clone makes.
        """
        self._keep(msgspec.structs.replace(self.place, seq=seq + 2))
        self.lost = False

    def count_batch(self) -> None:
        """Note durably that the number of this telemetry batch is taken."""
        self._keep(msgspec.structs.replace(self.place, batch=self.place.batch + 1))

    def _keep(self, place: Place) -> None:
        page = _Page(place=place, sha256=_digest(place))
        fsio.write_atomic(self._path, msgspec.json.encode(page))
        self.place = place


def _digest(place: Place) -> str:
    return hashlib.sha256(msgspec.json.encode(place)).hexdigest()
