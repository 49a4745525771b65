"""Changes of the disk: whole or not at all, and errors with a name."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError


class PowerCutError(Exception):
    """Stops at a kill point."""


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fsio.write_atomic(path, b"old")
    fsio.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", range(5))
def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "file"
    fsio.write_atomic(path, b"old", mode=fsio.READ_ONLY)
    points = []

    def kill(operation: str, at: Path) -> None:
        points.append((operation, at.name))
        if len(points) > cut:
            raise PowerCutError

    unwatch = fsio.watch(kill)
    try:
        fsio.write_atomic(path, b"new", mode=fsio.READ_ONLY)
    except PowerCutError:
        assert path.read_bytes() in (b"old", b"new")
    finally:
        unwatch()
    fsio.write_atomic(path, b"new", mode=fsio.READ_ONLY)
    assert path.read_bytes() == b"new"
    assert [path] == list(tmp_path.iterdir())


def test_every_step_of_a_change_is_announced(tmp_path: Path) -> None:
    seen: list[str] = []
    unwatch = fsio.watch(lambda operation, _path: seen.append(operation))
    try:
        fsio.write_atomic(tmp_path / "file", b"x")
        fsio.flip_link(tmp_path / "link", "file")
        fsio.remove(tmp_path / "link")
    finally:
        unwatch()
    assert seen == [
        *("create", "write", "rename", "fsync"),
        *("symlink", "rename", "fsync"),
        *("unlink", "fsync"),
    ]


def test_a_link_is_flipped_in_one_step(tmp_path: Path) -> None:
    link = tmp_path / "link"
    fsio.flip_link(link, "a")
    fsio.flip_link(link, "b")
    assert link.readlink() == Path("b")
    assert [link] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "E_NO_SPACE"), (errno.EROFS, "E_READ_ONLY"), (errno.EIO, "E_DISK")],
)
def test_errors_of_the_disk_have_codes(tmp_path: Path, number: int, code: str) -> None:
    with pytest.raises(RetryableError) as caught, fsio.changing("write", tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.code == code
    assert str(tmp_path) in caught.value.what


def test_a_full_device_is_a_clear_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(RetryableError) as caught, fsio.Appender(full) as file:
        file.write(b"x")
    assert caught.value.code == "E_NO_SPACE"


def test_space_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    fsio.require_space(tmp_path, 1)
    with pytest.raises(RetryableError) as caught:
        fsio.require_space(tmp_path, 1, reserve=1 << 62)
    assert caught.value.code == "E_NO_SPACE"
    assert caught.value.data["need"] == 1


def test_a_growing_file_is_cut_to_what_is_kept(tmp_path: Path) -> None:
    with fsio.Appender(tmp_path / "file") as file:
        file.write(b"0123456789")
        file.sync()
    with fsio.Appender(tmp_path / "file", keep=4) as file:
        file.write(b"x")
        assert file.length == 5
    assert (tmp_path / "file").read_bytes() == b"0123x"


def test_a_file_is_hashed_in_blocks(tmp_path: Path) -> None:
    data = os.urandom(3 * fsio.BLOCK + 17)
    (tmp_path / "file").write_bytes(data)
    assert fsio.hash_file(tmp_path / "file") == (
        hashlib.sha256(data).hexdigest(),
        len(data),
    )


def test_directories_are_private(tmp_path: Path) -> None:
    path = fsio.private_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
