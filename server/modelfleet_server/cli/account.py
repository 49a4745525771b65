"""Which server a command asks, and as whom: options, environment, stored login.

The login is a file of its owner only, `$MODELFLEET_CONFIG` or
`$XDG_CONFIG_HOME/modelfleet/login.json`. A token is never sent to another server than the
one that gave it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.kit.ids import new_id

DEFAULT_SERVER = "http://127.0.0.1:8080"
CONFIG = "MODELFLEET_CONFIG"
OWNER_ONLY = 0o600


@dataclass(frozen=True)
class Login:
    """A stored login."""

    server: str
    user: str
    token: str
    expires_ms: int


@dataclass(frozen=True)
class Account:
    """Whom to ask, and with which bearer token ("" is nobody)."""

    server: str
    token: str


def login_path(environ: Mapping[str, str]) -> Path:
    """Return where the login is kept."""
    if named := environ.get(CONFIG):
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "modelfleet" / "login.json"


def read_login(path: Path) -> Login | None:
    """Return the stored login, None where there is none.

    Raises:
        InvalidError: The file is not one, or may not be read.
    """
    try:
        return Login(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise InvalidError(
            f"{path} is not a stored login ({error})", "Log in again: modelfleet login."
        ) from None


def write_login(path: Path, login: Login) -> None:
    """Store a login in place of the one before, readable by its owner only.

    Raises:
        InvalidError: The file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{new_id()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(asdict(login), file)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InvalidError(
            f"the login cannot be stored in {path}: {error.strerror}",
            f"Name another file with {CONFIG}.",
        ) from None


def find_account(
    server: str | None, token: str | None, environ: Mapping[str, str]
) -> Account:
    """Return whom to ask: options win over the environment, that over the stored login.

    Raises:
        InvalidError: The address is none, or the stored login cannot be read.
    """
    named = server or environ.get("MODELFLEET_SERVER")
    shown = token or environ.get("MODELFLEET_TOKEN")
    held = None if named and shown else read_login(login_path(environ))
    url = check_url(named or (held.server if held else DEFAULT_SERVER))
    if not shown and held is not None and held.server == url:
        shown = held.token
    return Account(url, shown or "")


def check_url(url: str) -> str:
    """Return the address of a server without a slash at its end.

    Raises:
        InvalidError: It is none.
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not url.isprintable() or " " in url:
        raise InvalidError(
            f"the server {url!r} is not an address",
            f"Write it like {DEFAULT_SERVER}.",
        )
    return url.rstrip("/")
