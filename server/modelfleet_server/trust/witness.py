"""What an approver's client has seen, beside the key file: nothing older is signed upon.

A server that shows an approver the state of last week, validly signed then, would have a
change signed that drops what came since. So the client keeps the highest version that it
verified of every role, and refuses less. The versions of snapshot and timestamp count only
as long as the same online keys sign them.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust.approving import InForce
from modelfleet_server.trust.changes import RefusedError

ONLINE = ("snapshot", "timestamp")
FORMAT = "modelfleet-approver-seen-0"


def path_of(key: Path) -> Path:
    """Return where it is kept for the key file `key`."""
    return key.with_name(f"{key.name}.seen")


def check(path: Path, fleet: str, in_force: InForce) -> None:
    """Return if nothing that is in force is older than what was seen, and remember it.

    Args:
        path: See `path_of`.
        fleet: SHA-256 of the first root.
        in_force: Verified.

    Raises:
        RefusedError: Something is older.
        InvalidError: The file is broken.
    """
    held = _read(path, fleet)
    keys = {role: sorted(in_force.root.roles[role].keyids) for role in ONLINE}
    floors = {
        role: version
        for role, version in held.get("versions", {}).items()
        if role not in ONLINE or held.get("keys") == keys
    }
    for role, version in sorted(floors.items()):
        shown = in_force.versions.get(role, 0)
        if shown < version:
            raise RefusedError(
                f"the server shows {role} {shown}, and {version} was seen here before",
                "Do not sign. If the server was restored from an old copy and everybody "
                f"knows it, remove {path}.",
                role=role,
            )
    _write(path, {"fleet": fleet, "keys": keys, "versions": dict(in_force.versions)})


def _read(path: Path, fleet: str) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InvalidError(
            f"{path} does not say what was seen", "Restore it, or remove it knowingly."
        )
    return value if value.get("fleet") == fleet else {}


def _write(path: Path, value: Mapping[str, object]) -> None:
    draft = path.with_name(f".{path.name}.{new_id()}")
    with draft.open("x", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **value}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
