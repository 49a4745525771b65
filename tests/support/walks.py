"""A device whose metadata is walked from a dictionary: no file, connection or clock."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import unquote

from tests.support.solo import DAY, SoloFleet, make_release
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError

from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.messages import Wish
from modelfleet_agent.trust.state import TrustState
from modelfleet_agent.trust.steps import Elapsed, Fetch, Read, Step, Write
from modelfleet_agent.trust.survey import Survey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.release import ReleaseRef

NONCE = "5" * 32
MODEL = "demo/digits"
Fail = Callable[[Step], Exception | None]


@dataclass(frozen=True)
class History:
    """What a fleet published, one after the other, all of it honestly signed."""

    fleet: SoloFleet
    refs: list[ReleaseRef]
    states: list[dict[str, bytes]]


@cache
def history() -> History:
    """Releases, recalls, floors up and down, and new online keys."""
    fleet = SoloFleet()
    refs: list[ReleaseRef] = []
    states: list[dict[str, bytes]] = []

    def publish() -> None:
        fleet.publish()
        states.append(dict(fleet.files.metadata))

    for number in range(4):
        made = make_release(fleet.files, f"1.{number}.0")
        refs.append(fleet.add_release(made))
        publish()
        fleet.now += DAY
        if number == 1:
            fleet.stop(refs[0].id)
            fleet.set_floor(MODEL, "1.1.0")
            publish()
        if number == 2:
            fleet.rotate_online()
            fleet.revoke("c" * 64)
            publish()
    fleet.set_floor(MODEL, "1.0.0")
    publish()
    return History(fleet, refs, states)


@dataclass
class Device:
    """What a walk can see of a device: some bytes by path, and what was believed."""

    disk: dict[str, bytes] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    floors: Floors = field(default_factory=lambda: Floors(fleet=history().fleet.id))
    state: TrustState = field(default_factory=lambda: TrustState(fleet=history().fleet.id))

    def refresh(
        self, served: dict[str, bytes], *, fail: Fail = lambda _: None, cut: int = -1
    ) -> Exception | None:
        """Walk once; `cut`: the walk is dropped at the step with this number."""
        known = history()
        want = [Wish(release_path(one.model, one.version), one.id) for one in known.refs]
        survey = Survey.begin(known.fleet.root, self.state, self.floors, NONCE)
        walk, self.steps = survey.walk(want), []
        try:
            step = walk.send(None)
            while len(self.steps) != cut:
                self.steps.append(step)
                try:
                    failure = fail(step)
                    if failure is not None:
                        raise failure
                    reply = self._reply(step, served)
                except (DownloadError, RetryableError) as error:
                    step = walk.throw(error)
                else:
                    step = walk.send(reply)
            walk.close()
        except StopIteration as end:
            self.state = end.value
        except (RepositoryError, DownloadError, AgentError) as error:
            return error
        finally:
            self.floors = survey.floors
        return None

    def _reply(self, step: Step, served: dict[str, bytes]) -> bytes | int | None:
        match step:
            case Read():
                return self.disk.get(step.path)
            case Write():
                self.disk[step.path] = step.data
                return None
            case Elapsed():
                return 0
            case Fetch():
                return self._serve(step.path, served)

    def _serve(self, path: str, served: dict[str, bytes]) -> bytes:
        known = history()
        kind, _, name = path.removeprefix("/tuf/").partition("/")
        if kind == "time":
            return known.fleet.time_token(name)
        files = served if kind == "metadata" else known.fleet.files.targets
        data = files.get(unquote(name))
        if data is None:
            raise DownloadHTTPError(path, 404)
        return data

    @property
    def fetched(self) -> list[str]:
        return [one.path for one in self.steps if isinstance(one, Fetch)]
