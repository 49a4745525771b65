"""Settings: file, then environment, then arguments; and what is wrong is named."""

from pathlib import Path

import pytest

from modelfleet_server.settings import SettingsError, load_settings, template


def write(home: Path, text: str) -> None:
    (home / "modelfleet.toml").write_text(text, encoding="utf-8")


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "new", environ={})
    assert (settings.host, settings.port, settings.broker) == ("127.0.0.1", 8080, "auto")
    assert settings.database_url == f"sqlite:///{tmp_path}/new/modelfleet.db"
    assert settings.blobs_url == f"file://{tmp_path}/new/blobs"
    assert not (tmp_path / "new").exists()


def test_arguments_win_over_environment_and_environment_over_the_file(
    tmp_path: Path,
) -> None:
    write(tmp_path, 'port = 1\nbroker_port = 1\nworkers = 7\nhost = "::1"')
    environ = {"MODELFLEET_PORT": "2", "MODELFLEET_BROKER_PORT": "2"}
    arguments = {"port": 3, "workers": None}
    settings = load_settings(tmp_path, environ=environ, arguments=arguments)
    found = (settings.port, settings.broker_port, settings.workers, settings.host)
    assert found == (3, 2, 7, "::1")


def test_the_home_comes_from_the_argument_or_the_environment(tmp_path: Path) -> None:
    environ = {"MODELFLEET_HOME": str(tmp_path / "a")}
    assert load_settings(environ=environ).home == tmp_path / "a"
    assert load_settings(tmp_path / "b", environ=environ).home == tmp_path / "b"


def test_the_template_sets_nothing_and_its_lines_are_the_defaults(tmp_path: Path) -> None:
    plain = load_settings(tmp_path, environ={})
    for text in (template(), template().replace("# ", "").partition("\n")[2]):
        write(tmp_path, text)
        assert load_settings(tmp_path, environ={}) == plain


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 80", "prot"),
        ('port = "80"', "port"),
        ("port = true", "port"),
        ("port = 65536", "port"),
        ("workers = 0", "workers"),
        ("host = 1", "host"),
        ("port =", "modelfleet.toml"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, text: str, named: str) -> None:
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=named):
        load_settings(tmp_path, environ={})


def test_a_variable_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="MODELFLEET_PORT"):
        load_settings(tmp_path, environ={"MODELFLEET_PORT": "eighty"})
