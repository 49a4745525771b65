"""Names that appear in documents, topics and paths."""

import re

from modelfleet_manifests.errors import BadNameError

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
DEVICE = r"^[a-z0-9][a-z0-9-]{2,62}$"
MODEL = r"^[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9-]{0,62}$"

# Role names of the trust repository: a namespace of the same name would collide.
RESERVED = frozenset(
    {"root", "targets", "snapshot", "timestamp", "director", "time", "revocations", "stops"}
)
_MODEL = re.compile(MODEL)
_NAME = re.compile(NAME)
_DEVICE = re.compile(DEVICE)


def check_name(text: str, kind: str) -> str:
    """Return `text` if it may name a `kind` (slot, group, variant, …).

    Raises:
        BadNameError: It does not match `[a-z0-9][a-z0-9-]{0,62}`.
    """
    if not _NAME.fullmatch(text):
        raise BadNameError(f"{kind} {text!r}", "names match [a-z0-9][a-z0-9-]{0,62}")
    return text


def check_device(text: str) -> str:
    """Return `text` if it may be a device id.

    Raises:
        BadNameError: It does not match `[a-z0-9][a-z0-9-]{2,62}`.
    """
    if not _DEVICE.fullmatch(text):
        raise BadNameError(f"device {text!r}", "device ids match [a-z0-9][a-z0-9-]{2,62}")
    return text


def split_model(text: str) -> tuple[str, str]:
    """Return namespace and name of a model such as `vision/defect-detector`.

    Raises:
        BadNameError: It is not `namespace/name`, or the namespace is reserved.
    """
    if not _MODEL.fullmatch(text):
        raise BadNameError(
            f"model {text!r}", "write namespace/name, each [a-z0-9][a-z0-9-]*"
        )
    namespace, name = text.split("/")
    if namespace in RESERVED:
        raise BadNameError(f"model {text!r}", f"the namespace {namespace!r} is reserved")
    return namespace, name


def release_path(model: str, version: str) -> str:
    """Return the target path of a release in the trust repository."""
    return f"m/{model}/{version}/release.json"


def split_path(path: str) -> tuple[str, str]:
    """Return model and version of what `release_path` wrote."""
    _, namespace, name, version, _ = path.split("/")
    return f"{namespace}/{name}", version
