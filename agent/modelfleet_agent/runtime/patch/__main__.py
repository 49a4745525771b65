"""The patching child: `python -m modelfleet_agent.runtime.patch`, under limits.

It reads a `Spec` from standard input and writes a `Verdict` to standard output.
"""

import os
import sys
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.patch import Spec, Verdict
from modelfleet_manifests import delta


def patch(spec: Spec) -> Verdict:
    """Apply the patch and sync its result."""
    try:
        with (
            Path(spec.old).open("rb") as old,
            Path(spec.patch).open("rb") as source,
            fsio.Appender(Path(spec.new), keep=0) as new,
        ):
            delta.apply(
                lambda offset, length: os.pread(old.fileno(), length, offset),
                source.read,
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
    verdict = patch(msgspec.json.decode(sys.stdin.buffer.read(), type=Spec))
    sys.stdout.buffer.write(msgspec.json.encode(verdict))
