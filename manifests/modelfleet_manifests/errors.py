"""What can be wrong with a document, a name or a patch.

One root for everything that `manifests` refuses. Every error carries a stable `code` that
devices report and operators search for, `what` it is about and `why` it was refused.
"""


class ManifestError(Exception):
    """The root: bytes or a name that must not be used.

    Attributes:
        code: Stable identifier, `E_…`; never reworded once released.
        what: The thing that was refused, such as a topic or a file name.
        why: What is wrong with it, in words.
    """

    code = "E_MANIFEST"

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why


class FormatError(ManifestError):
    """Not the canonical bytes of a known document."""

    code = "E_FORMAT"


class SizeError(ManifestError):
    """Larger, deeper or longer than the limit that was fixed before parsing."""

    code = "E_SIZE"


class BadNameError(ManifestError):
    """A name, version, selector or topic that does not follow its grammar."""

    code = "E_NAME"


class SignatureError(ManifestError):
    """Not signed by enough of the keys that may sign it."""

    code = "E_SIGNATURE"


class AddressError(ManifestError):
    """Signed, but for another device, group, fleet or topic than it came by."""

    code = "E_ADDRESS"


class OrderError(ManifestError):
    """Older than the document that is held."""

    code = "E_OLDER"


class EquivocationError(ManifestError):
    """The same order as the document that is held, with another payload."""

    code = "E_EQUIVOCATION"


class LimitError(ManifestError):
    """A plan that does not fit into one document: named so that it can be split."""

    code = "E_LIMIT"


class EchoError(ManifestError):
    """Does not repeat what a device asks for that lost its memory: it may be an old one."""

    code = "E_ECHO"
