"""What an operator may set: `modelfleet.toml` in the home, environment, arguments.

Later sources win. Names are the same everywhere: `port = 8080` in the file,
`MODELFLEET_PORT=8080` in the environment, `port=8080` as an argument.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from modelfleet_server.kit.errors import InvalidError

FILE_NAME = "modelfleet.toml"
DEFAULT_HOME = "fleet"
PREFIX = "MODELFLEET_"
MAX_PORT = 65535


class SettingsError(InvalidError):
    """A setting that is unknown, of the wrong type or impossible."""

    code = "settings"


@dataclass(frozen=True)
class Settings:
    """The server's configuration. Paths hang below `home`, an absolute directory.

    Attributes:
        home: Where everything of this server is.
        host: Address that HTTP listens on.
        port: Its port; 0 picks a free one, which `server.json` then tells.
        database: SQLAlchemy URL; empty means `modelfleet.db` in the home.
        blobs: Object store as obstore names it; empty means the directory `blobs`.
        broker: `auto`, `embedded`, `mosquitto`, or the URL of an outside broker, `mqtt://`.
        broker_port: MQTT port of a broker that the server starts; 0 picks a free one.
        public_url: How devices reach this server, if not by `http://host:port`.
        workers: How many jobs a worker process runs at once; the same in all of them.
        keep_jobs_days: How long jobs that ended are kept.
        delta_count: How many deltas one plan makes at most; 0 makes none.
        delta_mb: MiB of deltas that one plan makes at most.
        delta_cpu_s: Seconds of CPU that one plan takes at most.
        delta_wait_s: How long a rollout waits for its deltas.
        delta_keep_hours: How long deltas are kept that no device could use.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8080
    database: str = ""
    blobs: str = ""
    broker: str = "auto"
    broker_port: int = 0
    public_url: str = ""
    workers: int = 1
    keep_jobs_days: int = 30
    delta_count: int = 64
    delta_mb: int = 2048
    delta_cpu_s: int = 900
    delta_wait_s: int = 300
    delta_keep_hours: int = 72

    def __post_init__(self) -> None:
        """Check the values together.

        Raises:
            SettingsError: One of them is impossible.
        """
        for name in ("port", "broker_port"):
            if not 0 <= getattr(self, name) <= MAX_PORT:
                raise SettingsError(f"{name} is not between 0 and {MAX_PORT}", setting=name)
        for name in ("workers", "keep_jobs_days"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is less than 1", setting=name)
        for name in (field.name for field in fields(self)):
            if name.startswith("delta_") and getattr(self, name) < 0:
                raise SettingsError(f"{name} is less than 0", setting=name)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database or f"sqlite:///{self.home / 'modelfleet.db'}"

    @property
    def blobs_url(self) -> str:
        """The object store in force."""
        return self.blobs or (self.home / "blobs").as_uri()

    @property
    def scratch(self) -> Path:
        """Where bytes on their way in wait; on the same file system as the blobs."""
        return self.home / "incoming"

    @property
    def keys(self) -> Path:
        """Directory of the online keys, 0700."""
        return self.home / "keys"

    @property
    def online_key(self) -> Path:
        """The keys that sign what must be signed unattended, 0600."""
        return self.keys / "online.key"

    @property
    def signer_socket(self) -> Path:
        """Where the process that holds them is asked, 0600."""
        return self.home / "signer.sock"

    @property
    def broker_dir(self) -> Path:
        """What a broker that the server starts writes."""
        return self.home / "broker"

    @property
    def address_file(self) -> Path:
        """Written once the server listens: `{url, mqtt: {host, port}, pid}`."""
        return self.home / "server.json"


def load_settings(
    home: Path | None = None,
    *,
    environ: Mapping[str, str],
    arguments: Mapping[str, object] | None = None,
) -> Settings:
    """Return the settings in force.

    Args:
        home: From `--home`; else `MODELFLEET_HOME`, else `./fleet`. Need not exist.
        environ: `os.environ`.
        arguments: Settings by name from the command line; None values count as absent.

    Raises:
        SettingsError: Names the file, variable or argument, and what is wrong.
    """
    chosen = (home or Path(environ.get(PREFIX + "HOME") or DEFAULT_HOME)).absolute()
    kinds = {field.name: field.type for field in fields(Settings) if field.name != "home"}
    found: dict[str, object] = {}
    file = chosen / FILE_NAME
    for name, value in _read_file(file).items():
        found[name] = _check(kinds, name, value, str(file))
    for name, kind in kinds.items():
        variable = PREFIX + name.upper()
        if (text := environ.get(variable)) is not None:
            found[name] = _check(kinds, name, _number(text, kind), variable)
    for name, value in (arguments or {}).items():
        if value is not None:
            found[name] = _check(kinds, name, value, "the arguments")
    return Settings(home=chosen, **found)  # type: ignore[arg-type]


def template() -> str:
    """Return a `modelfleet.toml` that sets nothing and shows every default."""
    lines = ["# Settings of a modelfleet server; every line shows its default.", ""]
    for field in fields(Settings):
        if field.name != "home":
            value = (
                f'"{field.default}"' if isinstance(field.default, str) else field.default
            )
            lines.append(f"# {field.name} = {value}")
    return "\n".join(lines) + "\n"


def _read_file(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}", "Correct the file.") from None


def _number(text: str, kind: object) -> object:
    """Read a variable for a number as one; what is not a number stays text."""
    return int(text) if kind is int and text.strip().isdigit() else text


def _check(kinds: Mapping[str, object], name: str, value: object, source: str) -> object:
    kind = kinds.get(name)
    if kind is None:
        raise SettingsError(
            f"{source} sets {name!r}, which is not a setting",
            f"Settings are {', '.join(kinds)}.",
            setting=name,
        )
    if type(value) is not kind:
        wanted = "a number" if kind is int else "text"
        raise SettingsError(f"{name} in {source} is not {wanted}: {value!r}", setting=name)
    return value
