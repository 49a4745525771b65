"""`agent.toml`: read as a whole, and every error names key and value."""

from pathlib import Path

import msgspec
import pytest

from modelfleet_agent.errors import UsageError
from modelfleet_agent.settings.file import FileSettings, read_settings


def write(directory: Path, text: str) -> Path:
    (directory / "agent.toml").write_text(text)
    return directory


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == FileSettings()


def test_every_key_is_read(tmp_path: Path) -> None:
    found = read_settings(
        write(
            tmp_path,
            """
            [link]
            interfaces = ["eth*", "wlan0"]
            metered = ["wwan*"]
            budget_mb_per_day = 50
            budget_mb_per_month = 500
            budget_counts = "metered"
            windows = ["02:00-04:00", "sat,sun 00:00-24:00"]
            zone = "Europe/Berlin"
            jitter_s = 600
            proxy = "http://user:secret@proxy.example:3128"
            no_proxy = ["*.lan", "10.*"]
            mirrors = ["http://mirror.lan:8000/fleet"]
            min_rate = 1024
            rate_window_s = 10

            [switch]
            windows = ["fri-mon 22:00-06:00"]
            zone = "America/New_York"

            [outbox]
            telemetry_kb = 64
            reports_kb = 128

            [runtime]
            nice = 5
            slot_threads = { digits = 2 }
            """,
        )
    )
    assert found.link.budget_mb_per_month == 500
    assert found.link.parsed_windows[1].days == {5, 6}
    assert found.switch.parsed_windows[0].days == {4, 5, 6, 0}
    assert found.outbox.telemetry_kb == 64
    assert (found.runtime.nice, found.runtime.slot_threads) == (5, {"digits": 2})
    assert found.link.proxy_for("https://fleet.example") == found.link.proxy
    assert found.link.proxy_for("http://Mirror.lan:8000") == ""
    assert found.link.proxy_for("http://10.0.0.7:8000") == ""


def test_the_page_shows_every_key_with_its_default(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "agent.md").read_text()
    block = page.partition("## Settings")[2].partition("    [link]")
    lines = "[link]" + block[2].partition("\n**")[0]
    text = "\n".join(line.removeprefix("    ") for line in lines.splitlines())
    assert read_settings(write(tmp_path, text)) == FileSettings()
    shown = {line.removeprefix("# ").partition(" =")[0] for line in text.splitlines()}
    keys = {
        field.name
        for section in msgspec.structs.fields(FileSettings)
        for field in msgspec.structs.fields(section.type)
    }
    assert keys <= shown


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[link]\nmin_rate = -1", "link.min_rate = -1: Expected `int` >= 0"),
        ("[link]\nmin_rate = 'x'", "link.min_rate = 'x': Expected `int`"),
        ("[link]\nbudget_mb_per_day = 0", "link.budget_mb_per_day = 0"),
        ("[link]\nbudget_counts = 'some'", "link.budget_counts = 'some'"),
        ("[link]\nwindos = []", "unknown field `windos`"),
        ("[links]", "unknown field `links`"),
        ("[link]\nwindows = ['2-4']", "link.windows: '2-4' is no window"),
        ("[link]\nwindows = ['25:00-26:00']", "between 00:00 and 24:00"),
        ("[link]\nwindows = ['02:00-02:00']", "it is empty"),
        ("[switch]\nwindows = ['fry 02:00-03:00']", "'fry' names no days"),
        ("[link]\nwindows = [1]", "link.windows[0] = 1: Expected `str`"),
        ("[link]\nzone = 'Mars/Base'", "link.zone: 'Mars/Base' is no time zone"),
        ("[switch]\nzone = '../etc'", "switch.zone: '../etc'"),
        ("[link]\nmirrors = ['ftp://x']", "link.mirrors[0]: 'ftp://x' is no address"),
        ("[link]\nmirrors = ['http://h/?q']", "link.mirrors[0]"),
        ("[link]\nproxy = 'https://proxy'", "link.proxy: 'https://proxy'"),
        ("[outbox]\ntelemetry_kb = 1", "outbox.telemetry_kb = 1"),
        ("[link\n", "is not TOML"),
    ],
)
def test_an_error_names_key_and_value(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(write(tmp_path, text))
    assert caught.value.code == "E_SETTINGS"
    assert named in caught.value.what
    assert "agent.toml" in caught.value.what


def test_an_error_never_shows_a_password(tmp_path: Path) -> None:
    for line in (
        "proxy = 'https://me:secret@proxy'",
        "mirrors = ['http://me:secret@mirror']",
    ):
        with pytest.raises(UsageError) as caught:
            read_settings(write(tmp_path, f"[link]\n{line}"))
        assert "secret" not in caught.value.what
