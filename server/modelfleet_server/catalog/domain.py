"""The life of a version as a table, and its lineage; pure."""

from collections.abc import Mapping
from enum import StrEnum

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.errors import ManifestError
from modelfleet_server.kit.errors import ConflictError, InvalidError
from modelfleet_server.kit.transitions import follow

LINEAGE_DIGESTS = ("code", "data", "environment")
MAX_LINEAGE = 64 * 1024


class State(StrEnum):
    """Where a version is; stored, so never rename a value."""

    BUILDING = "building"
    BUILT = "built"
    PROPOSED = "proposed"
    RELEASED = "released"
    REVOKED = "revoked"
    FAILED = "failed"


class Event(StrEnum):
    """What happens to a version."""

    FINISH = "finish"
    FAIL = "fail"
    RETRY = "retry"
    PROPOSE = "propose"
    WITHDRAW = "withdraw"
    PUBLISH = "publish"
    REVOKE = "revoke"


MOVES: dict[tuple[State, Event], State] = {
    (State.BUILDING, Event.FINISH): State.BUILT,
    (State.BUILDING, Event.FAIL): State.FAILED,
    (State.FAILED, Event.RETRY): State.BUILDING,
    (State.BUILT, Event.PROPOSE): State.PROPOSED,
    (State.PROPOSED, Event.WITHDRAW): State.BUILT,
    (State.PROPOSED, Event.PUBLISH): State.RELEASED,
    (State.RELEASED, Event.REVOKE): State.REVOKED,
    # revoked first, stopped later
    (State.REVOKED, Event.REVOKE): State.REVOKED,
}

SIGNED = frozenset({State.RELEASED, State.REVOKED})
"""States whose statement is signed and stays listed for ever."""


class VersionStateError(ConflictError):
    """The version is in no state for this."""

    code = "version-state"


class LineageError(InvalidError):
    """What a version says of its origin is not well-formed."""

    code = "lineage"


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        VersionStateError: The pair is not in `MOVES`.
    """
    return follow(MOVES, state, event, what="a version", error=VersionStateError)


def write_lineage(lineage: Mapping[str, object]) -> bytes:
    """Return the bytes whose SHA-256 a release carries as its lineage.

    Fractions become decimal strings, since what is signed holds no floats.

    Args:
        lineage: `code`, `data` and `environment` are digests, `hyperparameters` is an
            object; anything else beside them is kept.

    Raises:
        LineageError: One of these is missing or not well-formed, or it is too large.
    """
    for name in LINEAGE_DIGESTS:
        value = lineage.get(name)
        if not isinstance(value, str) or not is_digest(value):
            raise LineageError(
                f"the lineage's {name!r} is not a digest: {value!r}",
                "Give the SHA-256 of it, 64 lower-case hexadecimal digits.",
                field=name,
            )
    if not isinstance(lineage.get("hyperparameters"), Mapping):
        raise LineageError(
            "the lineage has no object 'hyperparameters'", "Write {} if there are none."
        )
    try:
        data = canonical(_without_floats(lineage))
    except ManifestError as error:
        raise LineageError(f"the lineage cannot be written: {error.why}") from None
    if len(data) > MAX_LINEAGE:
        raise LineageError(
            f"the lineage has {len(data)} bytes, at most {MAX_LINEAGE} fit",
            "Name large parts by their digest.",
        )
    return data


def _without_floats(value: object) -> object:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _without_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_floats(item) for item in value]
    return value
