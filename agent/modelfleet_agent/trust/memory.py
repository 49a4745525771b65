"""What the device never forgets: its floors and its state, on disk.

Two files, `floors.a` and `floors.b`, are written in turn, each with its own checksum and
fsynced: whatever a power cut tears, the one before is whole. A tombstone that is only in
one of them is also in the state (`trust/state.json`) by then, or comes again.
"""

import logging
from pathlib import Path

import msgspec
from msgspec.structs import replace

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.floors import Floors, ModelFloor
from modelfleet_agent.trust.state import GATES, TrustState
from modelfleet_manifests.digests import sha256

STATE = "trust/state.json"
NAMES = ("floors.a", "floors.b")
LOST = "floors"

_encoder = msgspec.json.Encoder(order="deterministic")
log = logging.getLogger(__name__)


def read_state(directory: Path, fleet: str) -> TrustState:
    """Return the state in `directory`; an empty one where there is none of this fleet.

    Raises:
        RetryableError: `E_RECORD`: it is damaged. It is not passed over, since revocations
            would be forgotten with it.
    """
    path = directory / STATE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=TrustState)
    except FileNotFoundError:
        return TrustState(fleet=fleet)
    except (OSError, msgspec.MsgspecError) as error:
        raise RetryableError(
            "E_RECORD",
            f"{path} cannot be read ({error})",
            hint="check the medium; to start afresh, enrol again with --force",
            path=str(path),
        ) from error
    return state if state.fleet == fleet else TrustState(fleet=fleet)


def write_state(directory: Path, state: TrustState) -> None:
    """Replace the state in `directory`, durably."""
    fsio.private_dir((directory / STATE).parent)
    fsio.write_atomic(directory / STATE, _encoder.encode(state))


def load_floors(directory: Path, fleet: str) -> Floors | None:
    """Return the newest whole record of this fleet; None where there is none."""
    found = [floors for name in NAMES if (floors := _read(directory / name)) is not None]
    return max((one for one in found if one.fleet == fleet), key=_serial, default=None)


def save_floors(directory: Path, floors: Floors) -> None:
    """Write a record over the older one of the two, durably; the same again costs nothing.

    Raises:
        RetryableError: The disk is in the way; the newest record is what it was.
    """
    held = load_floors(directory, floors.fleet)
    serial = held.serial + 1 if held else 1
    if held is not None and replace(floors, serial=held.serial) == held:
        return
    _write(directory / NAMES[serial % 2], replace(floors, serial=serial))


def mend_floors(directory: Path, fleet: str) -> list[str]:
    """Write a damaged or lost record again, from the other one; return its name.

    Both records of another fleet, or none at all, are nothing to mend.

    Raises:
        RetryableError: The disk is in the way.
    """
    held = load_floors(directory, fleet)
    if held is None:
        return []
    damaged = []
    for name in (one for one in NAMES if _read(directory / one) is None):
        # the second record is only written with the second change
        if held.serial >= len(NAMES) or (directory / name).exists():
            damaged.append(name)
        _write(directory / name, held)
    return damaged


def recollect(directory: Path, fleet: str) -> Floors:
    """Return the floors; what the state still knows where both files are lost."""
    held = load_floors(directory, fleet)
    return held or _salvage(read_state(directory, fleet))


def believe(directory: Path, fleet: str) -> TrustState:
    """Return the state of the last refresh, with what the floors say about it.

    `behind` names the roles in which something newer was seen, or `floors` where these
    were lost: then nothing is installed before a refresh.

    Raises:
        RetryableError: `E_RECORD`: the state is damaged.
    """
    state = read_state(directory, fleet)
    held = load_floors(directory, fleet)
    floors = held or _salvage(state)
    return replace(
        state,
        floors={model: one.floor for model, one in floors.models.items() if one.floor},
        blocked=_without(floors.blocked, state.pardons.get("revocations", [])),
        stopped=_without(floors.stopped, state.pardons.get("stops", [])),
        behind=_behind(state, held),
        clock=floors.clock,
    )


def keep(directory: Path, state: TrustState, floors: Floors) -> None:
    """Write the floors, then the state that rests on them."""
    save_floors(directory, floors)
    write_state(directory, replace(state, blocked=floors.blocked, stopped=floors.stopped))


def _behind(state: TrustState, held: Floors | None) -> list[str]:
    if held is None:
        return [LOST] if state.seen else []
    return rules.behind(held, state.seen, ("root", *GATES)) if state.seen else []


def _salvage(state: TrustState) -> Floors:
    models = {model: ModelFloor(floor, 0) for model, floor in state.floors.items()}
    return rules.bury(
        Floors(fleet=state.fleet, models=models), state.blocked, state.stopped
    )


def _without(names: list[str], pardoned: list[str]) -> list[str]:
    return sorted(set(names) - set(pardoned))


def _write(path: Path, floors: Floors) -> None:
    data = _encoder.encode(floors)
    fsio.write_atomic(path, data + b"\n" + sha256(data).encode() + b"\n")


def _read(path: Path) -> Floors | None:
    try:
        data, digest, end = path.read_bytes().rsplit(b"\n", 2)
        if end or sha256(data).encode() != digest:
            raise ValueError("the checksum does not fit")  # noqa: TRY301
        return msgspec.json.decode(data, type=Floors)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        log.warning("MF_DAMAGED %s cannot be read: %s", path, error)
        return None


def _serial(floors: Floors) -> int:
    return floors.serial
