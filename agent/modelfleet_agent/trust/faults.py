"""Stable codes for what python-tuf raises. Runs in the child."""

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    UnsignedMetadataError,
)

from modelfleet_agent.trust.checks import (
    DelegationError,
    DuplicateKeyError,
    FreezeError,
    GroupError,
    StrictError,
)

# The first that fits; whatever is none of these is `E_METADATA`.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (DownloadLengthMismatchError, "E_ENDLESS"),
    (DownloadHTTPError, "E_HTTP"),
    (DownloadError, "E_UNREACHABLE"),
    (BadVersionNumberError, "E_ROLLBACK"),
    (FreezeError, "E_FREEZE"),
    (ExpiredMetadataError, "E_EXPIRED"),
    (UnsignedMetadataError, "E_THRESHOLD"),
    (DuplicateKeyError, "E_THRESHOLD"),
    (GroupError, "E_GROUP"),
    (LengthOrHashMismatchError, "E_MIX"),
    (DelegationError, "E_DELEGATION"),
    (StrictError, "E_FORMAT"),
)


def code_of(error: Exception) -> str:
    """Return the code of what a refresh or a walk raised."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), "E_METADATA")
