"""Enrolment over real HTTP: once, provable, and safe to cut anywhere."""

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.solo import SoloFleet
from tests.support.solo_http import Fault, FleetServer, serve

from modelfleet_agent import fsio
from modelfleet_agent.enrol import (
    Enrolment,
    enrol,
    load_enrolment,
    load_report_key,
    load_root,
)
from modelfleet_agent.errors import RefusedError, RetryableError, UsageError
from modelfleet_manifests.profiles import Facts

ENROL = "/api/v1/enrol"


@pytest.fixture
def server() -> Iterator[FleetServer]:
    with serve(SoloFleet()) as server:
        server.claims |= {"claim": "dev-1", "other": "dev-2"}
        yield server


def enrol_at(server: FleetServer, directory: Path, claim: str = "claim") -> Enrolment:
    return enrol(server.url, claim, directory, Facts(arch="x86_64"))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_an_enrolled_device_has_key_root_and_identity(
    server: FleetServer, tmp_path: Path
) -> None:
    directory = tmp_path / "agent"
    me = enrol_at(server, directory)
    assert me == load_enrolment(directory)
    assert (me.device, me.fleet, me.server) == ("dev-1", server.fleet.id, server.url)
    assert load_root(directory) == server.fleet.root
    key = load_report_key(directory)
    assert server._enrolled["claim"]["report_key"] == key.public.fingerprint
    assert set(contents(directory)) == {
        "enrolment.json",
        "factory/root.json",
        "keys/report.key",
        "orders.new",
    }
    for path in directory.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077


def test_enrolling_twice_is_refused_without_force(
    server: FleetServer, tmp_path: Path
) -> None:
    enrol_at(server, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UsageError) as caught:
        enrol_at(server, tmp_path, "other")
    assert caught.value.code == "E_ENROLLED"
    assert "dev-1" in caught.value.what
    assert contents(tmp_path) == before


def test_force_gives_up_the_old_identity(server: FleetServer, tmp_path: Path) -> None:
    old = enrol_at(server, tmp_path)
    key = load_report_key(tmp_path)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "mf_v1_d_dev-1_assignment").write_bytes(b"old")
    new = enrol(server.url, "other", tmp_path, Facts(), force=True)
    assert (old.device, new.device) == ("dev-1", "dev-2")
    assert load_report_key(tmp_path).seed != key.seed
    assert not (tmp_path / "documents").exists()


def test_a_failed_force_keeps_the_old_identity(server: FleetServer, tmp_path: Path) -> None:
    old = enrol_at(server, tmp_path)
    key = load_report_key(tmp_path)
    with pytest.raises(UsageError):
        enrol(server.url, "unknown", tmp_path, Facts(), force=True)
    assert load_enrolment(tmp_path) == old
    assert load_report_key(tmp_path).seed == key.seed


def test_a_claim_token_used_twice_is_refused(server: FleetServer, tmp_path: Path) -> None:
    enrol_at(server, tmp_path / "one")
    with pytest.raises(UsageError) as caught:
        enrol_at(server, tmp_path / "two")
    assert caught.value.code == "claim-used"
    assert caught.value.hint
    assert set(contents(tmp_path / "two")) == {"keys/report.new"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "ftp://host",
        "http://",
        "http://user@host",
        "http://h:x",
        "http://h?a",
    ],
)
def test_a_bad_address_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        enrol(url, "claim", tmp_path / "agent", Facts())
    assert caught.value.code == "E_URL"
    assert caught.value.hint
    assert not (tmp_path / "agent").exists()


def test_an_empty_token_is_named(server: FleetServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        enrol_at(server, tmp_path / "agent", "")
    assert caught.value.code == "E_CLAIM"


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(RetryableError) as caught:
        enrol("http://127.0.0.1:1", "claim", tmp_path, Facts())
    assert caught.value.code == "E_UNREACHABLE"
    assert "http://127.0.0.1:1" in caught.value.what


def test_a_server_in_trouble_may_be_asked_again(
    server: FleetServer, tmp_path: Path
) -> None:
    server.break_next(ENROL, Fault(status=503))
    with pytest.raises(RetryableError):
        enrol_at(server, tmp_path)
    assert enrol_at(server, tmp_path).device == "dev-1"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]"])
def test_an_answer_of_another_server_is_refused(
    server: FleetServer, tmp_path: Path, body: bytes
) -> None:
    server.break_next(ENROL, Fault(status=200, body=body))
    with pytest.raises(RefusedError) as caught:
        enrol_at(server, tmp_path)
    assert caught.value.code == "E_ANSWER"
    assert set(contents(tmp_path)) == {"keys/report.new"}


def test_a_root_that_is_not_the_fleets_is_refused(
    server: FleetServer, tmp_path: Path
) -> None:
    server.fleet.id = "0" * 64
    with pytest.raises(RefusedError) as caught:
        enrol_at(server, tmp_path)
    assert "root" in caught.value.what


class PowerCutError(Exception):
    """The power went away."""


@contextmanager
def suppress_enrolled() -> Iterator[None]:
    """The cut came after the last write that counts."""
    try:
        yield
    except UsageError as error:
        if error.code != "E_ENROLLED":
            raise


def test_a_power_cut_at_any_write_is_mended_by_the_same_command(
    server: FleetServer, tmp_path: Path
) -> None:
    cut, done = 0, False
    while not done:
        directory = tmp_path / str(cut)
        server.claims[str(cut)] = f"dev-{cut}"
        left = cut

        def count(_operation: str, _path: Path) -> None:
            nonlocal left
            if left == 0:
                raise PowerCutError
            left -= 1

        stop = fsio.watch(count)
        try:
            enrol_at(server, directory, str(cut))
            done = True
        except PowerCutError:
            pass
        finally:
            stop()
        with suppress_enrolled():
            enrol_at(server, directory, str(cut))
        me = load_enrolment(directory)
        assert me.device == f"dev-{cut}"
        fingerprint = load_report_key(directory).public.fingerprint
        assert server._enrolled[str(cut)]["report_key"] == fingerprint
        cut += 1
    assert cut > 20


@pytest.mark.parametrize("text", ["{}", "", "[]", json.dumps({"device": "UPPER"})])
def test_a_damaged_enrolment_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "enrolment.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_enrolment(tmp_path)
    assert caught.value.code == "E_NOT_ENROLLED"
    assert "--force" in caught.value.hint


def test_a_directory_without_enrolment_says_what_to_do(tmp_path: Path) -> None:
    for load in (load_enrolment, load_report_key, load_root):
        with pytest.raises(UsageError) as caught:
            load(tmp_path)
        assert caught.value.code == "E_NOT_ENROLLED"
