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


@pytest.mark.parametrize("name", ["system_parts.sh", "arm64_root.sh"])
def test_the_scripts_that_bring_the_parts_are_valid_shell(name: str) -> None:
    script = system.ROOT / "tools" / name
    subprocess.run(["bash", "-n", str(script)], check=True)
