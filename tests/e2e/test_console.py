"""The pages, in a real browser, before a real server whose devices report by MQTT."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    expect,
    sync_playwright,
)
from tests.support.devices import SimDevice
from tests.support.lines import make_line, operate, publish_releases, target
from tests.support.server import ServerUnderTest
from tests.support.system import require_chromium
from tests.support.waiting import eventually

from modelfleet_server.identity import service
from modelfleet_server.identity.domain import HOUR_MS, TokenKind
from modelfleet_server.identity.service import NewUser
from modelfleet_server.kit.access import SESSION_COOKIE, Actor, Role, system
from modelfleet_server.kit.clock import now_ms

PASSWORD = "correct horse"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
NARROW = {"width": 320, "height": 256}
TEXT_PX, TARGET_PX = 18, 72


@dataclass
class Stage:
    """A server with three devices that run 1.0.0, and users by the names of their roles."""

    server: ServerUnderTest
    devices: list[SimDevice]

    def log_in(self, context: BrowserContext, role: Role) -> None:
        """Log in without the form, which one test tries and which is slow on purpose."""
        with self.server.database.write() as session:
            issued = service.issue(
                session, Actor(role.value, role), TokenKind.SESSION, "test",
                at_ms=now_ms(), life_ms=HOUR_MS,
            )  # fmt: skip
        context.add_cookies(
            [{"name": SESSION_COOKIE, "value": issued.secret, "url": self.server.url}]
        )

    def tell(self, device: SimDevice) -> None:
        """Let a device report through the broker."""
        with device.connect():
            device.report()

    def settle(self) -> None:
        """Let every device follow its newest documents."""
        for device in self.devices:
            with device.connect():
                device.follow()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    server = ServerUnderTest.start(tmp_path_factory.mktemp("home"))
    try:
        with server.database.write() as session:
            for role in (Role.VIEWER, Role.OPERATOR):
                user = NewUser(role.value, role, PASSWORD)
                service.create_user(session, user, actor=system("test"), at_ms=now_ms())
        publish_releases(server, "1.0.0", "1.1.0")
        devices = make_line(server, 3)
        made = operate(server, "deployments", **target("1.0.0"))
        for device in devices:
            device.follow()
        _wait_for_state(server, made["id"], "done")
        yield Stage(server, devices)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, stage: Stage) -> Iterator[Open]:
    """Opens a path as a user of a role. At the end no page may have complained."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_(path: str, role: Role | None = Role.OPERATOR, **wishes: Any) -> Page:
        context = browser.new_context(base_url=stage.server.url, **wishes)
        contexts.append(context)
        if role is not None:
            stage.log_in(context, role)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    # a wrong password is answered by 401, which Chromium notes; anything else is ours
    assert [one for one in complaints if "401 (Unauthorized)" not in one] == []


def _wait_for_state(server: ServerUnderTest, rollout: str, state: str) -> None:
    client = server.client(Role.VIEWER)
    address = f"/api/v1/rollouts/{rollout}"
    eventually(lambda: client.get(address).json()["state"] == state, state)


def rows(page: Page) -> Any:
    return page.locator("tbody > tr")


def test_a_stranger_logs_in_and_arrives_where_they_wanted(open_page: Open) -> None:
    page = open_page("/?state=compliant", role=None)
    expect(page).to_have_title("Log in · modelfleet")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("password is wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url("/?state=compliant")
    page.get_by_role("button", name="Log out").click()
    page.goto("/")
    expect(page).to_have_title("Log in · modelfleet")


def test_counts_lead_to_lists_and_filters_are_taken_away_again(open_page: Open) -> None:
    page = open_page("/")
    page.get_by_role("link", name="3 compliant").click()
    expect(page).to_have_url("/?state=compliant#devices")
    expect(rows(page)).to_have_count(3)
    page.get_by_role("link", name="0 stale").click()
    expect(rows(page)).to_have_count(0)
    expect(page.get_by_text("No device here is stale.")).to_be_visible()
    page.get_by_role("link", name="state: stale").click()
    page.get_by_role("link", name="group: line").click()
    expect(page).to_have_url("/?group=line#devices")
    expect(page.get_by_role("heading", level=1)).to_contain_text("line 3 devices")


def test_a_report_changes_the_page_without_a_reload(open_page: Open, stage: Stage) -> None:
    page = open_page("/")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.evaluate("document.title = 'still the same document'")
    device = stage.devices[1]
    device.slots["digits"].intact = False
    stage.tell(device)
    row = rows(page).filter(has_text=device.id)
    expect(row).to_contain_text("drifted")
    expect(page.get_by_role("link", name="1 drifted")).to_be_visible()
    expect(page.locator("rect.drifted")).to_have_attribute("width", "333")
    device.slots["digits"].intact = True
    stage.tell(device)
    expect(row).to_contain_text("compliant")
    assert page.title() == "still the same document"


def test_a_rollout_is_paused_resumed_and_undone_by_clicking(
    open_page: Open, stage: Stage
) -> None:
    page = open_page("/")
    wish = target("1.1.0", waves=["device:cam-0", "all"], start=True)
    made = operate(stage.server, "rollouts", **wish)
    card = page.locator(f"#rollout-{made['id']}")
    expect(card).to_contain_text("running")
    stage.settle()
    expect(card).to_contain_text("1 of 1 device run it")

    card.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("paused")
    expect(card.get_by_text("pause by operator")).to_be_visible()
    needs = page.get_by_role("region", name="Needs a person")
    expect(needs).to_contain_text("demo/digits 1.1.0")
    card.get_by_role("button", name="Resume").click()
    expect(card).to_contain_text("running")

    card.get_by_role("link", name="Undo").click()
    expect(page.get_by_text("1 device runs it and goes back to")).to_contain_text("1.0.0")
    page.get_by_role("button", name="Undo on 1 device").click()
    expect(card).to_contain_text("undone")
    stage.settle()
    assert stage.devices[0].slots["digits"].release.version == "1.0.0"  # type: ignore[union-attr]
    expect(needs).to_contain_text("Nothing waits for a person.")


def test_the_technicians_page_turns_from_green_to_yellow_and_back(
    open_page: Open, stage: Stage
) -> None:
    page = open_page("/c", viewport=PHONE)
    page.get_by_label("Type or scan its id").fill(" CAM-2 ")
    page.get_by_role("button", name="Check").click()
    expect(page).to_have_url("/c/cam-2")
    verdict = page.get_by_role("region", name="State")
    expect(verdict).to_have_css("background-color", "rgb(45, 184, 134)")
    expect(verdict).to_contain_text("compliant")
    device = stage.devices[2]
    device.slots["digits"].intact = False
    stage.tell(device)
    expect(verdict).to_have_css("background-color", "rgb(255, 212, 0)")
    expect(verdict).to_contain_text("drifted")
    expect(page.get_by_text("Leave it connected")).to_be_visible()
    expect(page.get_by_text("altered on the device")).to_be_visible()
    device.slots["digits"].intact = True
    stage.tell(device)
    expect(verdict).to_contain_text("compliant")


def test_on_the_floor_text_is_large_and_what_is_pressed_too(open_page: Open) -> None:
    page = open_page("/c/cam-2", viewport=PHONE)
    small = page.evaluate(
        """least => [...document.querySelectorAll("body *")].filter(node =>
            node.checkVisibility() && [...node.childNodes].some(one =>
                one.nodeType === 3 && one.data.trim())
            && !node.closest(".visually-hidden, .skip, .brand")
            && parseFloat(getComputedStyle(node).fontSize) < least
        ).map(node => node.textContent)""",
        TEXT_PX,
    )
    assert small == []
    for one in page.locator("a:visible:not(.skip), button:visible").all():
        box = one.bounding_box()
        assert box is not None
        assert box["height"] >= TARGET_PX, one.inner_text()


def test_a_lost_stream_is_told_and_found_again(open_page: Open) -> None:
    page = open_page("/c/cam-2")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    page.route("**/live/**", lambda route: route.fulfill(status=204))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_text("reconnecting")).to_be_visible()
    page.unroute("**/live/**")
    expect(page.get_by_text("live", exact=True)).to_be_visible(timeout=20_000)


def test_without_scripts_everything_can_be_read_and_done(
    open_page: Open, stage: Stage
) -> None:
    page = open_page("/", java_script_enabled=False)
    expect(rows(page)).to_have_count(3)
    made = operate(
        stage.server,
        "rollouts",
        **target("1.1.0", waves=["device:cam-0", "all"], start=True),
    )
    page.reload()
    card = page.locator(f"#rollout-{made['id']}")
    card.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("paused")
    card.get_by_role("link", name="Undo").click()
    page.get_by_role("button", name="Undo on 0 devices").click()
    expect(card).to_contain_text("undone")
    page.goto("/c/cam-0")
    expect(page.get_by_role("region", name="State")).to_be_visible()
    stage.settle()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_400_per_cent_nothing_is_cut_off(open_page: Open, scheme: str) -> None:
    page = open_page("/", viewport=NARROW, color_scheme=scheme)
    for path in ("/", "/c/cam-0", "/c", "/login"):
        page.goto(path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= NARROW["width"], path
