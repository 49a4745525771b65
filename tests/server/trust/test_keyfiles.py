"""Key files: their owner's only, encrypted where they leave the server, never replaced."""

import json
from pathlib import Path

import pytest
from tests.support.fleet import CHEAP, PASSPHRASE

from modelfleet_manifests.keys import PrivateKey
from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.trust.approver import (
    ApproverKeys,
    Cost,
    WrongPassphraseError,
    open_approver,
    read_public,
    write_approver,
)
from modelfleet_server.trust.online import Online, OnlineKeys, read_online, write_online

FLEET = "f" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "usb" / "approver.key"
    write_approver(path, ApproverKeys(FLEET, ApproverKeys.generate()), PASSPHRASE, CHEAP)
    return path


@pytest.fixture
def online(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "online.key"
    write_online(path, Online(FLEET, OnlineKeys.generate()))
    return path


def _change(path: Path, *keys: str, to: object) -> None:
    value = json.loads(path.read_text())
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(json.dumps(value))


def test_keys_come_back_with_the_passphrase_and_every_role_has_its_own(path: Path) -> None:
    keys = open_approver(path, PASSPHRASE)
    assert keys.fleet == FLEET
    assert set(keys.by_role) == {"root", "targets", "namespaces", "revocations", "stops"}
    assert len({key.public.hex for key in keys.by_role.values()}) == 5
    public = read_public(path).keys
    assert public == {role: key.public for role, key in keys.by_role.items()}


def test_only_the_owner_may_read_a_key_file(path: Path, online: Path) -> None:
    for file in (path, online):
        assert file.stat().st_mode & 0o777 == 0o600
        file.chmod(0o640)
    with pytest.raises(InvalidError, match="chmod 600"):
        open_approver(path, PASSPHRASE)
    with pytest.raises(InvalidError, match="chmod 600"):
        read_online(online)


def test_no_seed_stands_in_the_approvers_file(path: Path) -> None:
    text = path.read_bytes()
    for key in open_approver(path, PASSPHRASE).by_role.values():
        assert isinstance(key, PrivateKey)
        assert key.seed not in text
        assert key.seed.hex().encode() not in text


def test_a_key_file_is_never_overwritten(path: Path, online: Path) -> None:
    before = path.read_bytes(), online.read_bytes()
    with pytest.raises(ConflictError):
        write_approver(path, ApproverKeys(FLEET, {}), PASSPHRASE, CHEAP)
    with pytest.raises(ConflictError):
        write_online(online, Online(FLEET, OnlineKeys.generate()))
    assert (path.read_bytes(), online.read_bytes()) == before
    assert [one.name for one in path.parent.iterdir()] == ["approver.key"]


def test_a_wrong_passphrase_opens_nothing(path: Path) -> None:
    with pytest.raises(WrongPassphraseError):
        open_approver(path, PASSPHRASE + "!")


def test_a_short_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="8 characters"):
        write_approver(tmp_path / "a.key", ApproverKeys(FLEET, {}), "short", CHEAP)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("format",), "other"),
        (("fleet",), "e" * 64),
        (("public", "root"), "0" * 64),
        (("public",), {}),
        (("public",), []),
        (("kdf", "memory"), 1 << 40),
        (("kdf", "passes"), 1 << 20),
        (("kdf", "salt"), "?"),
        (("kdf",), None),
        (("box",), "??"),
    ],
)
def test_an_altered_key_file_is_refused(path: Path, keys: tuple[str], to: object) -> None:
    _change(path, *keys, to=to)
    with pytest.raises(InvalidError, match=r"not an approver's key file|altered"):
        open_approver(path, PASSPHRASE)


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("format",), "other"),
        (("fleet",), "x"),
        (("snapshot",), "00"),
        (("director",), "z" * 64),
        (("director",), None),
        (("more",), "0" * 64),
    ],
)
def test_a_broken_online_file_is_refused(
    online: Path, keys: tuple[str], to: object
) -> None:
    _change(online, *keys, to=to)
    with pytest.raises(InvalidError, match="not a file of online keys"):
        read_online(online)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "{}" * 40_000])
def test_what_is_no_key_file_is_refused(path: Path, online: Path, text: str) -> None:
    path.write_text(text)
    online.write_text(text)
    with pytest.raises(InvalidError):
        open_approver(path, PASSPHRASE)
    with pytest.raises(InvalidError):
        read_online(online)


def test_a_missing_key_file_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="modelfleet init"):
        read_online(tmp_path / "none.key")


def test_the_default_cost_takes_hundreds_of_megabytes() -> None:
    assert Cost().memory >= 256 << 20
