"""A missing system part skips tests by name, and never silently in CI."""

import subprocess
from pathlib import Path

import pytest
from tests.support import system


def test_a_missing_part_skips_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="mosquitto is neither installed"):
        system.give_up("mosquitto")


def test_a_missing_part_fails_where_ci_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="chromium is neither installed"):
        system.give_up("chromium")


def test_a_program_is_found_where_debian_puts_daemons(tmp_path: Path) -> None:
    assert system.find_program("no-such-program", "sh") is not None
    assert system.find_program("no-such-program") is None
    assert "/usr/sbin" in system.PLACES.split(":")


def test_the_script_that_brings_the_parts_is_valid_shell() -> None:
    script = system.ROOT / "tools" / "system_parts.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
