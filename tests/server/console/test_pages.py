"""Pages over HTTP: who may see and do what, and that errors are pages in words."""

import re

import httpx2
import msgspec
import pytest
from tests.support.lines import make_engine, make_line, operate, publish_releases, target
from tests.support.server import ServerUnderTest

from modelfleet_server.console.login import safe_path
from modelfleet_server.identity import service
from modelfleet_server.identity.domain import HOUR_MS, TokenKind
from modelfleet_server.jobs.service import Wish, submit
from modelfleet_server.kit.access import SESSION_COOKIE, Actor, Role
from modelfleet_server.kit.clock import now_ms


def browser(server: ServerUnderTest, role: Role) -> httpx2.Client:
    """Return a client with the session cookie of a user of a role."""
    server.token(role)  # makes the user
    with server.database.write() as session:
        issued = service.issue(
            session, Actor(role.value, role), TokenKind.SESSION, "test",
            at_ms=now_ms(), life_ms=HOUR_MS,
        )  # fmt: skip
    client = server.client()
    client.cookies.set(SESSION_COOKIE, issued.secret)
    return client


def form_token(page: httpx2.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert found is not None
    return found[1]


@pytest.fixture
def rollout(server: ServerUnderTest) -> str:
    """The id of a running rollout that may be undone."""
    publish_releases(server, "1.0.0", "1.1.0")
    devices = make_line(server, 2)
    operate(server, "deployments", **target("1.0.0"))
    for device in devices:
        device.follow()
    make_engine(server).tick()
    return str(operate(server, "rollouts", **target("1.1.0", start=True))["id"])


def test_strangers_are_sent_to_the_login_and_back(server: ServerUnderTest) -> None:
    answer = server.client().get("/?state=failed&group=a")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2F%3Fstate%3Dfailed%26group%3Da"


@pytest.mark.parametrize(
    ("asked", "led_to"),
    [
        ("/c/cam-1", "/c/cam-1"),
        ("/?state=failed", "/?state=failed"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example", "/"),
        ("/\n/elsewhere.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_a_login_never_leads_to_another_site(asked: str, led_to: str) -> None:
    assert safe_path(asked) == led_to


def test_a_login_form_of_another_site_is_refused(server: ServerUnderTest) -> None:
    answer = server.client().post(
        "/login",
        data={"name": "ada", "password": "whatever it is"},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403


def test_an_empty_fleet_says_what_to_do_first(server: ServerUnderTest) -> None:
    page = browser(server, Role.VIEWER).get("/")
    assert page.status_code == 200
    for words in (
        "No device is enrolled yet",
        "modelfleet device claim",
        "Nothing was rolled out yet",
        "Nothing waits for a person.",
    ):
        assert words in page.text


def test_a_viewer_sees_no_buttons_and_may_not_press_them(
    server: ServerUnderTest, rollout: str
) -> None:
    viewer = browser(server, Role.VIEWER)
    page = viewer.get("/")
    assert rollout in page.text
    assert "Undo" not in page.text
    assert "Pause" not in page.text
    answer = viewer.post(
        f"/rollouts/{rollout}/moves",
        data={"event": "pause", "form_token": form_token(page)},
    )
    assert answer.status_code == 403
    assert "needs the role operator" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert viewer.get(f"/rollouts/{rollout}/undo").status_code == 403


def test_a_form_without_the_sessions_token_does_nothing(
    server: ServerUnderTest, rollout: str
) -> None:
    operator, other = browser(server, Role.OPERATOR), browser(server, Role.ADMIN)
    address = f"/rollouts/{rollout}/moves"
    for token in ("", "0" * 64, form_token(other.get("/"))):
        answer = operator.post(address, data={"event": "pause", "form_token": token})
        assert answer.status_code == 403
        assert "Reload the page" in answer.text
    shown = server.client(Role.VIEWER).get(f"/api/v1/rollouts/{rollout}").json()
    assert shown["state"] == "running"


def test_an_operator_pauses_and_is_named_as_the_reason(
    server: ServerUnderTest, rollout: str
) -> None:
    operator = browser(server, Role.OPERATOR)
    wish = {"event": "pause", "form_token": form_token(operator.get("/"))}
    answer = operator.post(f"/rollouts/{rollout}/moves", data=wish)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/#rollout-{rollout}")
    page = operator.get("/")
    assert "pause by operator" in page.text
    again = operator.post(f"/rollouts/{rollout}/moves", data=wish)
    assert again.status_code == 409
    assert "A rollout that is paused cannot pause" in again.text


def test_logging_out_ends_the_session_for_good(server: ServerUnderTest) -> None:
    client = browser(server, Role.VIEWER)
    secret = client.cookies[SESSION_COOKIE]
    answer = client.post("/logout", data={"form_token": form_token(client.get("/"))})
    assert answer.headers["location"] == "/login"
    stolen = server.client()
    stolen.cookies.set(SESSION_COOKIE, secret)
    assert stolen.get("/").status_code == 303


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/c/cam-99", 404, "There is no device &#39;cam-99&#39;"),
        ("/c?device=cam-99", 404, "There is no device cam-99 here"),
        ("/?group=nowhere", 404, "There is no group"),
        ("/?state=sad", 422, "is not understood"),
        ("/rollouts/zz/undo", 404, "There is no rollout"),
    ],
)
def test_what_is_not_there_is_a_page_in_words(
    server: ServerUnderTest, path: str, status: int, words: str
) -> None:
    answer = browser(server, Role.OPERATOR).get(path)
    assert answer.status_code == status
    assert words in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_names_from_outside_are_text_and_never_markup(server: ServerUnderTest) -> None:
    answer = browser(server, Role.VIEWER).get("/c", params={"device": "<b>x</b>"})
    assert "<b>x" not in answer.text
    assert "&lt;b&gt;x" in answer.text


def test_no_page_carries_a_style_a_script_or_an_address_of_its_own(
    server: ServerUnderTest, rollout: str
) -> None:
    operator = browser(server, Role.OPERATOR)
    for path in ("/", "/c", "/c/cam-0", f"/rollouts/{rollout}/undo", "/login"):
        text = operator.get(path).text
        assert " style=" not in text
        assert "<style" not in text
        assert re.findall(r"<script(?! type=\"module\" src=\"/static/)", text) == []
        assert re.findall(r"(?:href|src|action)=\"https?:", text) == []
        assert re.findall(r"\son[a-z]+=", text) == []
        assert len(text) < 150_000


def test_static_files_are_small_and_asked_for_again(server: ServerUnderTest) -> None:
    client = server.client()
    sizes = {}
    for name in ("console.css", "live.js", "bind.js", "ages.js", "icon.svg"):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-cache"
        sizes[name] = len(answer.content)
    assert sizes["console.css"] < 25_000
    assert sizes["live.js"] + sizes["bind.js"] + sizes["ages.js"] < 30_000
    assert client.get("/static/..%2fapi.py").status_code == 404


@pytest.fixture
def job(server: ServerUnderTest) -> str:
    """The id of a job that waits."""
    wish = Wish("bake", "1", "shop/bread", msgspec.Struct(), "1.2.0 rye")
    with server.database.write() as session:
        return submit(session, wish, actor="user:ada", at_ms=now_ms()).id


def test_jobs_are_shown_and_only_operators_can_cancel_them(
    server: ServerUnderTest, job: str
) -> None:
    seen = browser(server, Role.VIEWER).get("/jobs")
    assert "bake 1.2.0 rye" in seen.text
    assert "shop/bread" in seen.text
    assert f"/jobs/{job}/cancel" not in seen.text
    operator = browser(server, Role.OPERATOR)
    page = operator.get("/jobs")
    assert f"/jobs/{job}/cancel" in page.text
    form = {"form_token": form_token(page)}
    assert operator.post(f"/jobs/{job}/cancel").status_code == 403
    answer = operator.post(f"/jobs/{job}/cancel", data=form)
    assert answer.status_code == 303
    ended = operator.get("/jobs").text
    assert "cancelled" in ended
    assert "Nothing runs and nothing waits" in ended
    again = operator.post(f"/jobs/{job}/cancel", data=form)
    assert again.status_code == 409


def test_a_page_of_jobs_that_is_not_there_is_an_error_in_words(
    server: ServerUnderTest,
) -> None:
    answer = browser(server, Role.VIEWER).get("/jobs?after=nonsense")
    assert answer.status_code == 422
    assert "cursor" in answer.text
