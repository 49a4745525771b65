"""The agent's settings file, `agent.toml` in its directory: read and checked as a whole.

What it says holds from the next start of the agent. Every error names key and value.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelfleet_agent.errors import UsageError
from modelfleet_agent.settings.link import (
    LinkSettings,
    SwitchSettings,
    check_base,
    check_windows,
    check_zone,
)
from modelfleet_agent.settings.outbox import OutboxSettings
from modelfleet_manifests.release import Name

NAME = "agent.toml"
MAX_BYTES = 1 << 16
_PATH = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How models are run: `[runtime]`.

    Attributes:
        prepare: The CPU's graphs are optimised once for this very processor, and kept.
        nice: Niceness of the runtime child, which holds all slots.
        slot_threads: Threads inside one session, by slot, where not as all others.
    """

    prepare: bool = False
    nice: Annotated[int, Meta(ge=0, le=19)] = 0
    slot_threads: dict[Name, Annotated[int, Meta(ge=1, le=256)]] = {}


class FileSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; whatever is absent has its default.

    Attributes:
        link: How the network may be used.
        switch: When a new release may be put into service.
        outbox: What waits for the server.
        runtime: How models are run.
    """

    link: LinkSettings = LinkSettings()
    switch: SwitchSettings = SwitchSettings()
    outbox: OutboxSettings = OutboxSettings()
    runtime: RunSettings = RunSettings()


def read_settings(directory: Path) -> FileSettings:
    """Return what `agent.toml` of the agent's directory says; defaults where there is none.

    Raises:
        UsageError: `E_SETTINGS`: it cannot be read, or a value is wrong.
    """
    path = directory / NAME
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return FileSettings()
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise _wrong(path, f"has more than {MAX_BYTES} bytes")
    import tomllib  # noqa: PLC0415 - most devices have no such file

    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(path, f"is not TOML: {error}") from error
    return _check(_convert(values, path), path)


def _convert(values: dict[str, Any], path: Path) -> FileSettings:
    try:
        return msgspec.convert(values, FileSettings)
    except msgspec.ValidationError as error:
        found = _PATH.fullmatch(str(error))
        why, where = (found[1], found[2]) if found else (str(error), "")
        value = _value_at(values, where)
        said = f"{where} = {value!r}: " if where else ""
        raise _wrong(path, f"{said}{why}", key=where) from None


def _check(found: FileSettings, path: Path) -> FileSettings:
    for key, look in _looks(found):
        try:
            look()
        except ValueError as error:
            raise _wrong(path, f"{key}: {error}", key=key) from None
    return found


def _looks(found: FileSettings) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what types alone cannot say."""
    link, switch = found.link, found.switch
    yield "link.zone", lambda: check_zone(link.zone)
    yield "switch.zone", lambda: check_zone(switch.zone)
    yield "link.windows", lambda: check_windows(link.windows)
    yield "switch.windows", lambda: check_windows(switch.windows)
    for number, url in enumerate(link.mirrors):
        yield f"link.mirrors[{number}]", lambda url=url: check_base(url)  # type: ignore[misc]
    if link.proxy is not None:
        address = link.proxy
        yield "link.proxy", lambda: check_base(address, proxy=True)


def _value_at(values: object, where: str) -> object:
    for name, index in _PART.findall(where):
        try:
            values = values[int(index) if index else name]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return "?"
    return values


def _wrong(path: Path, why: str, *, key: str = "") -> UsageError:
    hint = "docs/agent.md lists every key; nothing was changed"
    return UsageError("E_SETTINGS", f"{path}: {why}", hint=hint, path=str(path), key=key)
