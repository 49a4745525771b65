"""Versions of models in the console, and the front of what was tried for each profile."""

from pathlib import Path

import msgspec
from tests.server.builds.desk import Desk
from tests.server.builds.models import CALIBRATION, EVALUATION, digits
from tests.server.console.test_pages import browser
from tests.support.server import ServerUnderTest

from modelfleet_server.builds import making, service
from modelfleet_server.builds.domain import State
from modelfleet_server.builds.messages import BuildJob
from modelfleet_server.builds.recipes import plan_for
from modelfleet_server.catalog.versions import require_version
from modelfleet_server.kit.access import Role


def build(server: ServerUnderTest, folder: Path, profile: str) -> None:
    """What a worker makes for a profile of the first version."""
    folder.mkdir()
    job = BuildJob(
        master=str(digits()),
        evaluation=str(EVALUATION),
        calibration=str(CALIBRATION),
        profile=plan_for(profile),
    )
    built = making.make(job, folder, lambda _progress: None)
    told = msgspec.structs.replace(built, unproven=["Haswell: qemu is not installed here"])
    with server.database.write() as session:
        version = require_version(session, "demo/digits", "1.0.1")
        builds = service.list_builds(session, version.id)
        (row,) = [it for it in builds if it.profile == profile]
        row.state, row.built_json = State.DONE, msgspec.json.encode(told).decode()
        session.add(row)


def test_what_was_tried_is_shown_with_its_figures_and_verdicts(
    server: ServerUnderTest, tmp_path: Path
) -> None:
    Desk(server.database, server.blobs, tmp_path).publish("arm64", "x86-vnni")
    for profile in ("arm64", "x86-vnni"):
        build(server, tmp_path / profile, profile)
    page = browser(server, Role.VIEWER).get("/models/demo/digits/1.0.1")
    assert page.status_code == 200
    assert page.text.index('id="arm64"') < page.text.index('id="x86-vnni"')
    figures = ("of 450", " KiB", " MiB", " ms")
    reasons = ("does not suit models with Conv", "right for the profile", "qemu is not")
    for words in ("int8-tensor", "ships", *figures, *reasons):
        assert words in page.text


def test_the_versions_are_listed_and_lead_to_their_pages(
    server: ServerUnderTest, tmp_path: Path
) -> None:
    desk = Desk(server.database, server.blobs, tmp_path)
    desk.publish("arm64", at_ms=1)
    desk.publish("arm64", at_ms=2)
    page = browser(server, Role.VIEWER).get("/models")
    assert page.status_code == 200
    newest, oldest = (page.text.index(f">demo/digits 1.0.{n}<") for n in (2, 1))
    assert newest < oldest
    assert 'href="/models/demo/digits/1.0.1"' in page.text
    assert "building" in page.text


def test_a_version_that_is_not_there_is_told_in_words(server: ServerUnderTest) -> None:
    page = browser(server, Role.VIEWER).get("/models/no/where/1.0.0")
    assert page.status_code == 404
    assert "no/where" in page.text
