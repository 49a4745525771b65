"""The patching child: `python -m modelfleet_agent.runtime.patch`, under limits.

It reads a `Spec` from standard input and writes a `Verdict` to standard output.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.patch import Spec, Verdict
from modelfleet_manifests import delta


def growing(source: BinaryIO, news: BinaryIO) -> Callable[[int], bytes]:
    """Return how to read a file that is still being written, no farther than was told.

    Args:
        source: The file.
        news: Lines that say how many bytes of it are written; the last one, all of them.
    """
    at = there = 0

    def read(size: int) -> bytes:
        nonlocal at, there
        while at >= there:
            line = news.readline()
            if not line:
                return b""
            there = int(line)
        block = source.read(min(size, there - at))
        at += len(block)
        return block

    return read


def patch(spec: Spec, news: BinaryIO) -> Verdict:
    """Apply the patch and sync its result."""
    try:
        with (
            Path(spec.old).open("rb") as old,
            Path(spec.patch).open("rb") as source,
            fsio.Appender(Path(spec.new), keep=0) as new,
        ):
            delta.apply(
                lambda offset, length: os.pread(old.fileno(), length, offset),
                growing(source, news) if spec.grows else source.read,
                lambda data: new.write(bytes(data)),
                new_digest=spec.digest,
                new_length=spec.length,
            )
            new.sync()
    except delta.DeltaError as error:
        return Verdict(code=error.code, what=str(error))
    except RetryableError as error:
        return Verdict(code=error.code, what=error.what, retryable=True)
    except OSError as error:
        return Verdict(code="E_DISK", what=f"cannot patch: {error}", retryable=True)
    return Verdict()


if __name__ == "__main__":
    told = sys.stdin.buffer
    verdict = patch(msgspec.json.decode(told.readline(), type=Spec), told)
    sys.stdout.buffer.write(msgspec.json.encode(verdict))
