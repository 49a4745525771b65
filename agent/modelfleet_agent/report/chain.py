"""The chain: each report carries its number and the digest of the one before it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """The place of the next report: number, and digest of the payload before it."""

    seq: int
    prev: str
