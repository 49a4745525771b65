"""Why a patch was refused, each with what the caller needs to say so."""

from modelfleet_manifests.errors import ManifestError


class DeltaError(ManifestError):
    """The root: this patch must not be used; nothing of its output may be kept."""

    code = "E_DELTA"


class BrokenPatchError(DeltaError):
    """Truncated, altered or malformed: fetch it again, or fetch the full file.

    Attributes:
        offset: Bytes of the patch that were read before the fault was found.
    """

    code = "E_PATCH"

    def __init__(self, why: str, *, offset: int = 0) -> None:
        super().__init__("patch", f"{why} (after {offset} bytes of the patch)")
        self.offset = offset


class UnknownPatchError(DeltaError):
    """Made by a newer encoder: fetch the full file, or update this program."""

    code = "E_PATCH_NEWER"


class WrongBaseError(DeltaError):
    """The old file is not the one that the patch was made from.

    Attributes:
        expected: SHA-256 of the old file the patch needs, lower-case hex.
        found: SHA-256 of what was read, lower-case hex.
    """

    code = "E_PATCH_BASE"

    def __init__(self, expected: str, found: str) -> None:
        super().__init__("old file", f"the patch needs {expected}, this is {found}")
        self.expected = expected
        self.found = found


class WrongTargetError(DeltaError):
    """The patch makes another file than the one that was signed.

    Attributes:
        expected: SHA-256 that was asked for, lower-case hex.
        found: SHA-256 that the patch says it makes, lower-case hex.
    """

    code = "E_PATCH_TARGET"

    def __init__(self, expected: str, found: str, why: str) -> None:
        super().__init__("patch", why)
        self.expected = expected
        self.found = found


class WrongResultError(DeltaError):
    """The bytes that came out do not have the signed digest: throw them away.

    Attributes:
        expected: SHA-256 that was signed, lower-case hex.
        found: SHA-256 of what was written, lower-case hex.
    """

    code = "E_PATCH_RESULT"

    def __init__(self, expected: str, found: str) -> None:
        super().__init__("patch", f"it made {found}, signed is {expected}")
        self.expected = expected
        self.found = found
