"""The life of a rollout, its waves, and how they are counted. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from modelfleet_server.kit.errors import ConflictError, InvalidError
from modelfleet_server.kit.transitions import follow

FULL = 100


class State(StrEnum):
    """Where a rollout is; stored, so never rename a value."""

    DRAFT = "draft"
    PREPARING = "preparing"
    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"
    DONE = "done"
    UNDONE = "undone"


class Event(StrEnum):
    """What moves it: an operator, or the gate between two waves."""

    PREPARE = "prepare"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    BREACH = "breach"
    STARVE = "starve"
    FINISH = "finish"
    UNDO = "undo"
    REPLACE = "replace"


MOVES: dict[tuple[State, Event], State] = {
    # Its deltas are being made: started before, all devices would fetch whole files.
    (State.DRAFT, Event.PREPARE): State.PREPARING,
    (State.DRAFT, Event.START): State.RUNNING,
    (State.PREPARING, Event.START): State.RUNNING,
    (State.PREPARING, Event.UNDO): State.UNDONE,
    (State.RUNNING, Event.PAUSE): State.PAUSED,
    (State.RUNNING, Event.BREACH): State.HALTED,
    # A gate whose deadline passed without enough evidence: a person decides.
    (State.RUNNING, Event.STARVE): State.PAUSED,
    (State.RUNNING, Event.FINISH): State.DONE,
    (State.RUNNING, Event.UNDO): State.UNDONE,
    (State.PAUSED, Event.RESUME): State.RUNNING,
    (State.PAUSED, Event.UNDO): State.UNDONE,
    (State.HALTED, Event.UNDO): State.UNDONE,
    (State.DONE, Event.UNDO): State.UNDONE,
    # A rollback to another release takes away every step, so it ends what goes on.
    (State.PREPARING, Event.REPLACE): State.UNDONE,
    (State.RUNNING, Event.REPLACE): State.UNDONE,
    (State.PAUSED, Event.REPLACE): State.UNDONE,
    (State.HALTED, Event.REPLACE): State.UNDONE,
}

ACTIVE = (State.PREPARING, State.RUNNING, State.PAUSED, State.HALTED)
"""States that hold the slot of the group: no second rollout may start."""


class MoveError(ConflictError):
    """A rollout cannot make this move from where it is."""

    code = "rollout-move"


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        MoveError: The pair is not in `MOVES`.
    """
    return follow(MOVES, state, event, what="a rollout", error=MoveError)


class WaveKind(StrEnum):
    """How a wave counts the devices that it admits in all."""

    PROFILES = "profiles"
    COUNT = "count"
    PERCENT = "percent"
    DEVICES = "devices"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Wave:
    """One widening.

    Attributes:
        kind: How it counts.
        value: Devices for a count, per cent of the members, per profile for profiles.
        devices: Ids, for listed devices.
    """

    kind: WaveKind
    value: int = 0
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.kind:
            case WaveKind.PROFILES:
                return f"{self.value} of each profile"
            case WaveKind.COUNT:
                return f"{self.value} devices"
            case WaveKind.PERCENT:
                return f"{self.value} %"
            case WaveKind.DEVICES:
                return ", ".join(self.devices)
            case WaveKind.ALL:
                return "all"


def parse_wave(text: str) -> Wave:
    """Read `canary`, `3`, `25%`, `device:a,b` or `all`.

    Raises:
        InvalidError: It is none of these.
    """
    text = text.strip()
    if text == "all":
        return Wave(WaveKind.ALL)
    if text == "canary":
        return Wave(WaveKind.PROFILES, 1)
    if text.startswith("device:"):
        devices = tuple(filter(None, text.removeprefix("device:").split(",")))
        if devices:
            return Wave(WaveKind.DEVICES, devices=devices)
    if text.endswith("%") and text[:-1].isdigit() and 1 <= int(text[:-1]) <= FULL:
        return Wave(WaveKind.PERCENT, int(text[:-1]))
    if text.isdigit() and int(text) > 0:
        return Wave(WaveKind.COUNT, int(text))
    raise InvalidError(
        f"the wave {text!r} is not understood",
        "Write canary (one recently heard device of each profile), a number of devices, "
        "a share such as 25%, device:ID,ID or all.",
    )


def write_wave(wave: Wave) -> str:
    """Return the text that `parse_wave` reads."""
    match wave.kind:
        case WaveKind.ALL:
            return "all"
        case WaveKind.PROFILES:
            return "canary"
        case WaveKind.PERCENT:
            return f"{wave.value}%"
        case WaveKind.COUNT:
            return str(wave.value)
        case WaveKind.DEVICES:
            return f"device:{','.join(wave.devices)}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member of the group that can take part.

    Attributes:
        device: Device id.
        enrolment: Enrolment id: what admission works on.
        profile: The most specific profile that it fits.
        heard_ms: When anything last came from it, Unix ms.
    """

    device: str
    enrolment: str
    profile: str
    heard_ms: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a wave admits: these listed enrolments, and so many by bucket beside them.

    `count` None admits everyone.
    """

    listed: tuple[str, ...]
    count: int | None


def reach_of(wave: Wave, before: Sequence[str], members: Sequence[Candidate]) -> Reach:
    """Return whom a wave admits.

    Args:
        wave: The widening.
        before: Enrolments that earlier waves listed; they stay listed.
        members: Of the group, with a variant for each.

    Raises:
        InvalidError: A listed device is not a member.
    """
    listed = list(before)
    total = 0
    match wave.kind:
        case WaveKind.ALL:
            return Reach(tuple(listed), None)
        case WaveKind.PROFILES:
            listed += _heard_last(members, wave.value)
        case WaveKind.DEVICES:
            listed += _enrolments(wave.devices, members)
        case WaveKind.COUNT:
            total = wave.value
        case WaveKind.PERCENT:
            total = -(-len(members) * wave.value // FULL)
    unique = tuple(dict.fromkeys(listed))
    return Reach(unique, max(total - len(unique), 0))


def _heard_last(members: Sequence[Candidate], count: int) -> list[str]:
    profiles: dict[str, list[Candidate]] = {}
    for one in members:
        profiles.setdefault(one.profile, []).append(one)
    return [
        one.enrolment
        for profile in sorted(profiles)
        for one in sorted(profiles[profile], key=lambda it: (-it.heard_ms, it.device))[
            :count
        ]
    ]


def _enrolments(devices: Sequence[str], members: Sequence[Candidate]) -> list[str]:
    known: Mapping[str, str] = {one.device: one.enrolment for one in members}
    missing = sorted(set(devices) - set(known))
    if missing:
        raise InvalidError(
            f"device {missing[0]!r} is not a member that can run the release",
            "See who is: modelfleet rollout plan.",
            devices=missing,
        )
    return [known[device] for device in devices]
