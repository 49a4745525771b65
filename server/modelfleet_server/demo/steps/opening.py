"""Steps 1 and 2: a server and six devices."""

import json
import secrets
import time

from modelfleet_server.demo.fleet import CAST, SITE, enrol_all
from modelfleet_server.demo.play import GROUP, USER, Play, since
from modelfleet_server.demo.stage import SERVER
from modelfleet_server.demo.waiting import wait_for

HALLS = ("north", "south")


def open_server(play: Play) -> None:
    """Begin a fleet and serve it."""
    began = time.monotonic()
    stage = play.stage
    home = stage.home / "server"
    operator = play.approver_key.parent
    operator.mkdir(mode=0o700)
    password = operator / "password"
    for path, secret in (
        (play.passphrase, secrets.token_urlsafe(24)),
        (password, play.password),
    ):
        path.touch(mode=0o600)
        path.write_text(secret + "\n", encoding="utf-8")
    done = stage.command(
        *("init", "--solo", "--home", str(home), "--admin", USER),
        *("--approver-key", str(play.approver_key)),
        *("--passphrase-file", str(play.passphrase), "--password-file", str(password)),
    )
    play.did(f"A fleet was begun: {done['fleet'][:12]}, one approver, in {since(began)}.")
    play.by_hand("modelfleet init --solo")
    began = time.monotonic()
    server = stage.start(
        "server",
        [*SERVER, "serve", "--home", str(home), "--port", "0", "--broker", "embedded"],
    )
    address = home / "server.json"

    def look() -> bool:
        stage.check()
        return address.exists()

    wait_for(look, "the server", within_s=60, log=server.log)
    told = json.loads(address.read_text(encoding="utf-8"))
    play.connect(told["url"])
    token = play.client.log_in(USER, play.password)
    stage.use(MODELFLEET_SERVER=told["url"], MODELFLEET_TOKEN=token)
    play.did(
        f"The server answers at {told['url']}, its broker on port {told['mqtt']['port']}, "
        f"in {since(began)}."
    )
    play.by_hand("modelfleet serve --broker embedded; modelfleet login")


def open_fleet(play: Play) -> None:
    """Enrol six devices, start their agents, and group them by label."""
    began = time.monotonic()
    play.fleet = enrol_all(play.stage, play.client)
    play.did(f"{len(CAST)} devices enrolled and reported, in {since(began)}:")
    for device in play.fleet.devices:
        what = "declared facts" if device.declared else "as it really is"
        play.did(f"  {device.name}: profile {device.profile}, {what}")
    play.by_hand("modelfleet device claim arm64-north --label site=plant,hall=north")
    play.by_hand("modelfleet-agent enrol --server URL --token TOKEN --declare facts.json")
    play.by_hand("modelfleet-agent run")
    selectors = {GROUP: f"site={SITE}"} | {hall: f"hall={hall}" for hall in HALLS}
    for name, selector in selectors.items():
        made = play.client.post("/groups", {"name": name, "selector": selector})
        play.did(f"Group {name}: {made['members']} devices with {selector}.")
    play.by_hand(f"modelfleet group create {GROUP} --selector site={SITE}")
