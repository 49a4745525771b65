"""What the signer is asked to sign, read strictly: the unknown is refused."""

from collections.abc import Iterator

from tuf.api.metadata import Signed, Snapshot, Timestamp

from modelfleet_manifests.assignment import Assignment, ByPin
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import cap_of, read
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.evaluation import Evaluation
from modelfleet_manifests.header import Header
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.topics import deployment_topic, device_topic
from modelfleet_server.trust import rolefile
from modelfleet_server.trust.signer.domain import RefusedError
from modelfleet_server.trust.signer.vouching import MALFORMED

ISSUED = "x-issued"
Body = Assignment | Deployment | Evaluation


def read_role(role: str, payload: bytes) -> Signed:
    """Return the signed part of a snapshot or timestamp.

    Raises:
        RefusedError: It is none, is not canonical, or has a field that is not known.
    """
    kinds: dict[str, type[Signed]] = {"snapshot": Snapshot, "timestamp": Timestamp}
    try:
        signed = rolefile.parse_signed(payload)
        same = rolefile.payload_of(signed) == payload
    except (ManifestError, *MALFORMED) as error:
        raise RefusedError(f"the {role} is not well-formed ({error})") from None
    extra = {ISSUED} if role == "timestamp" else set()
    if role not in kinds or type(signed) is not kinds[role]:
        raise RefusedError(f"the signer does not sign {signed.type} as {role}")
    if not same or not set(signed.unrecognized_fields) <= extra:
        raise RefusedError(f"the {role} has something that is not understood")
    return signed


def read_body(kind: str, payload: bytes) -> Body:
    """Return a document of the director.

    Raises:
        RefusedError: It is none of this kind.
    """
    try:
        if kind == "assignment":
            return read(payload, Assignment, kind, cap=cap_of(kind))
        if kind == "deployment":
            return read(payload, Deployment, kind, cap=cap_of(kind))
        if kind == "evaluation":
            return read(payload, Evaluation, kind, cap=cap_of(kind))
    except ManifestError as error:
        raise RefusedError(f"the {kind} is not well-formed ({error})") from None
    raise RefusedError(f"the signer signs no documents of kind {kind!r}")


def topic_of(kind: str, header: Header) -> str:
    """Return where a document travels.

    Raises:
        RefusedError: It is addressed to a device and should be to a group, or the reverse.
    """
    if kind == "deployment" and header.group:
        return deployment_topic(header.group)
    if kind in {"assignment", "evaluation"} and header.device:
        return device_topic(header.device, kind)
    raise RefusedError(f"the {kind} is addressed to nobody of its kind")


def releases_of(body: Body) -> Iterator[ReleaseRef]:
    """Yield the releases that a document names.

    An evaluation names none: what it is about is not released yet, and never serves.
    """
    if isinstance(body, Evaluation):
        return
    if isinstance(body, Deployment):
        for slot in body.slots.values():
            for step in slot.steps:
                yield step.release
        return
    for governor in body.slots.values():
        if isinstance(governor, ByPin):
            yield governor.release
