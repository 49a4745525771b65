"""How a device comes into the fleet, over the real API."""

import httpx2
import pytest
from tests.support.server import ServerUnderTest

from modelfleet_manifests.keys import PrivateKey
from modelfleet_server.devices.domain import proof_message
from modelfleet_server.kit.access import Role

KEY = PrivateKey(b"\x11" * 32)


def claim(server: ServerUnderTest, device: str = "cam-1", **labels: str) -> str:
    answer = server.client(Role.OPERATOR).post(
        "/api/v1/devices/claims", json={"device": device, "labels": labels}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def ask(server: ServerUnderTest, token: str, key: PrivateKey = KEY) -> httpx2.Response:
    public = key.public.hex
    wish = {
        "token": token,
        "public_key": public,
        "proof": key.sign(proof_message(token, public)).hex(),
        "facts": {"arch": "aarch64", "cpu": ["asimddp"]},
    }
    return server.client().post("/api/v1/enrol", json=wish)


def test_a_claimed_device_enrols_with_its_labels(
    server: ServerUnderTest,
) -> None:
    answer = ask(server, claim(server, site="plant-b"))
    assert answer.status_code == 201
    shown = server.client(Role.VIEWER).get("/api/v1/devices/cam-1").json()
    assert shown["labels"] == {"site": "plant-b"}
    assert shown["profile"] == "arm64-dotprod"
    assert shown["incarnation"] == 1


def test_a_claim_token_works_once(server: ServerUnderTest) -> None:
    token = claim(server)
    assert ask(server, token).status_code == 201
    again = ask(server, token, PrivateKey(b"\x12" * 32))
    assert again.status_code == 401
    assert "used already" in again.json()["detail"]


def test_a_device_whose_answer_was_lost_gets_the_same_enrolment(
    server: ServerUnderTest,
) -> None:
    token = claim(server)
    first, second = ask(server, token).json(), ask(server, token).json()
    assert second["enrolment"] == first["enrolment"]
    assert second["token"] != first["token"]


def test_an_unknown_token_is_refused(server: ServerUnderTest) -> None:
    assert ask(server, "nonsense").status_code == 401


def test_without_proof_of_possession_nobody_enrols(server: ServerUnderTest) -> None:
    token = claim(server)
    other = PrivateKey(b"\x12" * 32)
    wish = {
        "token": token,
        "public_key": KEY.public.hex,
        "proof": other.sign(proof_message(token, KEY.public.hex)).hex(),
    }
    answer = server.client().post("/api/v1/enrol", json=wish)
    assert answer.status_code == 401
    assert ask(server, token).status_code == 201, "the token is not spent by a bad try"


@pytest.mark.parametrize("device", ["#", "a", "Cam-1", "cam/1"])
def test_a_device_id_that_is_no_topic_level_is_refused(
    server: ServerUnderTest, device: str
) -> None:
    answer = server.client(Role.OPERATOR).post(
        "/api/v1/devices/claims", json={"device": device}
    )
    assert answer.status_code == 422


def test_an_enrolled_device_cannot_be_claimed_until_it_is_retired(
    server: ServerUnderTest,
) -> None:
    assert ask(server, claim(server)).status_code == 201
    operator = server.client(Role.OPERATOR)
    refused = operator.post("/api/v1/devices/claims", json={"device": "cam-1"})
    assert refused.status_code == 409
    assert operator.post("/api/v1/devices/cam-1/retire").status_code == 200
    answer = ask(server, claim(server), PrivateKey(b"\x12" * 32))
    assert answer.json()["incarnation"] == 2


def test_a_retired_devices_token_means_nothing(server: ServerUnderTest) -> None:
    token = ask(server, claim(server)).json()["token"]
    server.client(Role.OPERATOR).post("/api/v1/devices/cam-1/retire")
    headers = {"Authorization": f"Bearer {token}"}
    assert server.client().get("/api/v1/devices", headers=headers).status_code == 401


def test_a_device_is_no_user(server: ServerUnderTest) -> None:
    token = ask(server, claim(server)).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert server.client().get("/api/v1/devices", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "wish",
    [
        {"name": "plant", "selector": "site=nowhere"},
        {"name": "plant", "selector": "site=="},
        {"name": "Plant", "selector": "site=plant-b"},
        {"name": "plant"},
    ],
)
def test_a_group_that_makes_no_sense_is_refused_in_words(
    server: ServerUnderTest, wish: dict[str, str]
) -> None:
    ask(server, claim(server, site="plant-b"))
    answer = server.client(Role.OPERATOR).post("/api/v1/groups", json=wish)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_late_joiner_is_in_the_groups_of_its_labels(server: ServerUnderTest) -> None:
    ask(server, claim(server, site="plant-b"))
    operator = server.client(Role.OPERATOR)
    made = operator.post("/api/v1/groups", json={"name": "b", "selector": "site=plant-b"})
    assert made.json()["members"] == 1
    ask(server, claim(server, "cam-2", site="plant-b"), PrivateKey(b"\x12" * 32))
    assert operator.get("/api/v1/groups").json()["items"][0]["members"] == 2
