"""Begins a fleet on disk: everything, or nothing where something is wrong."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from modelfleet_manifests.digests import sha256
from modelfleet_server import migrations
from modelfleet_server.identity.domain import check_name, check_password
from modelfleet_server.identity.service import NewUser, create_user
from modelfleet_server.kit.access import Role, system
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import ConflictError, UnavailableError
from modelfleet_server.kit.ids import new_secret
from modelfleet_server.settings import FILE_NAME, Settings, template
from modelfleet_server.trust import gathering
from modelfleet_server.trust.approver import check_passphrase
from modelfleet_server.trust.ceremony import FleetExistsError, Summary, init_solo
from modelfleet_server.trust.gathering import Gathering
from modelfleet_server.trust.online import Online, read_online, write_online

PRIVATE = 0o700
PASSWORD_LENGTH = 20


@dataclass(frozen=True)
class Wish:
    """A fleet to begin; `password` None makes one up."""

    settings: Settings
    approver_key: Path
    passphrase: str
    admin: str
    password: str | None


class Founded(TypedDict):
    """What was begun; `password` is None where it was given."""

    home: str
    fleet: str
    approver_key: str
    online_key: str
    admin: str
    password: str | None
    words: list[str]


def found(wish: Wish) -> Founded:
    """Make home, database, first user and keys.

    Raises:
        ConflictError: There is a fleet, or a key file, already.
        InvalidError: Name, password or passphrase are not allowed.
        UnavailableError: The home cannot be written.
    """
    _check(wish)
    made_up = None if wish.password else new_secret()[:PASSWORD_LENGTH]
    settings, home = wish.settings, wish.settings.home
    existed = set(home.iterdir()) if home.is_dir() else None
    try:
        home.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        begun = _begin(wish, made_up or wish.password or "")
    except BaseException as error:
        _undo(home, existed)
        if isinstance(error, OSError):
            raise UnavailableError(
                f"the home {home} cannot be written: {error.strerror}",
                "Choose another with --home.",
            ) from None
        raise
    return Founded(
        home=str(home),
        fleet=begun.fleet,
        approver_key=str(wish.approver_key),
        online_key=str(settings.online_key),
        admin=wish.admin,
        password=made_up,
        words=list(begun.words),
    )


class Together(TypedDict):
    """What several people began; `root` is the file that they adopt."""

    home: str
    fleet: str
    root: str
    admin: str
    password: str | None


def found_together(
    settings: Settings,
    held: Gathering,
    waiting: Path,
    *,
    admin: str,
    password: str | None,
) -> Together:
    """Make database, first user and metadata of a ceremony that everybody has signed.

    The server's keys take their place just before the database commits.

    Raises:
        ConflictError: Signatures are missing, or there is a fleet already.
        InvalidError: The ceremony was altered, or belongs to another server.
    """
    check_name(admin)
    if password is not None:
        check_password(password)
    if settings.online_key.exists():
        raise FleetExistsError(
            f"a fleet was begun in {settings.home} already",
            "Use another home for another fleet.",
            home=str(settings.home),
        )
    made_up = None if password else new_secret()[:PASSWORD_LENGTH]
    keys = read_online(waiting).keys
    database = Database(settings.database_url)
    now = now_ms()
    try:
        migrations.upgrade(database)
        with database.write() as session:
            root = gathering.finish(session, held, keys, now)
            first = NewUser(admin, Role.ADMIN, made_up or password or "")
            create_user(session, first, actor=system("init"), at_ms=now)
            fleet = sha256(root)
            write_online(settings.online_key, Online(fleet, keys))
    except BaseException:
        settings.online_key.unlink(missing_ok=True)  # it was not there before
        raise
    finally:
        database.close()
    waiting.unlink()
    config = settings.home / FILE_NAME
    if not config.exists():
        config.write_text(template(), encoding="utf-8")
    path = settings.home / "root.json"
    path.write_bytes(root)
    return Together(
        home=str(settings.home), fleet=fleet, root=str(path), admin=admin, password=made_up
    )


def _check(wish: Wish) -> None:
    check_passphrase(wish.passphrase)
    check_name(wish.admin)
    if wish.password is not None:
        check_password(wish.password)
    if wish.settings.online_key.exists():
        raise FleetExistsError(
            f"a fleet was begun in {wish.settings.home} already",
            "Use another home for another fleet.",
            home=str(wish.settings.home),
        )
    if wish.approver_key.exists():
        raise ConflictError(
            f"the key file {wish.approver_key} exists already",
            "Keys are never overwritten: name another file, or move this one away.",
            path=str(wish.approver_key),
        )


def _begin(wish: Wish, password: str) -> Summary:
    settings = wish.settings
    database = Database(settings.database_url)
    now = now_ms()
    try:
        migrations.upgrade(database)
        with database.write() as session:
            first = NewUser(wish.admin, Role.ADMIN, password)
            create_user(session, first, actor=system("init"), at_ms=now)
            begun = init_solo(
                session,
                online_path=settings.online_key,
                approver_path=wish.approver_key,
                passphrase=wish.passphrase,
                now_ms=now,
            )
    finally:
        database.close()
    config = settings.home / FILE_NAME
    if not config.exists():
        config.write_text(template(), encoding="utf-8")
    return begun


def _undo(home: Path, existed: set[Path] | None) -> None:
    """Take away what was made in the home; what was there before stays."""
    if existed is None:
        shutil.rmtree(home, ignore_errors=True)
        return
    for path in set(home.iterdir()) - existed:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
