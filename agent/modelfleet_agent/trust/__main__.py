"""The metadata child: one task on standard input, one answer on standard output."""

import logging
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
from tuf.api.exceptions import DownloadError, RepositoryError

from modelfleet_agent import fsio
from modelfleet_agent.clock import Clock, boot_ms
from modelfleet_agent.enrol import load_root
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.trust import faults
from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.memory import believe, keep, recollect, save_floors
from modelfleet_agent.trust.messages import Answer, Recall, Refresh, Task
from modelfleet_agent.trust.shell import Shell
from modelfleet_agent.trust.state import RELEASES, TrustState, statement_path
from modelfleet_agent.trust.survey import Survey
from modelfleet_agent.trust.tombstones import read_message
from modelfleet_agent.web import Site
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import ManifestError

UNSTEADY = "E_RECALLS"

log = logging.getLogger(__name__)


def refresh(task: Refresh, site: Site, rising: Clock) -> Answer:
    """Verify the metadata and write the new state; say what time it is."""
    directory = Path(task.directory)
    before = believe(directory, task.fleet)
    floors = rules.age(recollect(directory, task.fleet), task.ran)
    root = load_root(directory)
    if sha256(root) != task.fleet:
        return Answer(code="E_METADATA", what="factory/root.json is of another fleet")
    survey = Survey.begin(root, before, floors, task.nonce)
    try:
        state = Shell(directory, site, rising).drive(survey.walk(task.want))
    finally:  # what was verified before it went wrong was seen all the same
        save_floors(directory, survey.floors)
        for note in survey.notes:
            log.warning("MF_METADATA %s", note)
    keep(directory, state, survey.floors)
    _sweep(directory, state)
    return survey.answer


def recall(task: Recall) -> Answer:
    """Add what an authentic message names to the floors."""
    directory = Path(task.directory)
    state = believe(directory, task.fleet)
    if not state.recallers:
        raise RetryableError("E_METADATA", "no metadata was verified yet")
    message = read_message(task.payload, state.recallers)
    named = message.named
    floors = recollect(directory, task.fleet)
    grown = rules.bury(floors, named.get("revocations", ()), named.get("stops", ()))
    if grown != floors:
        save_floors(directory, grown)
    if message.faults:
        return Answer(code=UNSTEADY, what="; ".join(message.faults))
    return Answer()


def _sweep(directory: Path, state: TrustState) -> None:
    """Remove statements that are not listed any more."""
    listed = {directory / statement_path(one) for one in state.listed.values()}
    for path in (directory / RELEASES).glob("*"):
        if path not in listed:
            fsio.remove(path)


def perform(task: Task, rising: Clock = boot_ms) -> Answer:
    """Do a task; whatever goes wrong with the metadata is the answer.

    Args:
        task: From the supervisor.
        rising: Ms since the device booted.
    """
    if isinstance(task, Recall):
        return _answer(lambda: recall(task))
    moved: list[int] = []
    site = Site(task.server, token=task.token, proxy=task.proxy, count=moved.append)
    with closing(site):
        answer = _answer(lambda: refresh(task, site, rising))
    return msgspec.structs.replace(answer, moved=sum(moved))


def _answer(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except (RepositoryError, DownloadError) as error:
        return Answer(code=faults.code_of(error), what=str(error))
    except ManifestError as error:
        return Answer(code=UNSTEADY, what=str(error))
    except AgentError as error:
        return Answer(code=error.code, what=error.what)


def main() -> None:
    """Read the task, answer it."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("tuf").setLevel(logging.ERROR)
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(perform(task)))


if __name__ == "__main__":
    main()
