"""What a person at the device asks of the running agent: files that it answers.

`modelfleet-agent rollback` writes `wishes/<slot>`, the supervisor carries it out, writes
`wishes/<slot>.answer` and removes the wish. Only the agent's user can write there.
"""

from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import AgentError
from modelfleet_manifests.names import check_name

FOLDER = "wishes"
MOST_BYTES = 4096


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Let `slot` run what it ran before.

    Attributes:
        id: Random; the answer repeats it.
        slot: Its name.
        hours: How long what it runs now is not tried again.
    """

    id: str
    slot: str
    hours: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a wish.

    Attributes:
        id: Of the wish.
        code: "" where it was carried out, otherwise `E_…`.
        what: In words.
    """

    id: str
    code: str
    what: str


def write(directory: Path, wish: Wish) -> None:
    """Ask. Raises `RetryableError` where the disk is in the way."""
    folder = fsio.private_dir(directory / FOLDER)
    path = folder / check_name(wish.slot, "slot")
    fsio.write_atomic(path, msgspec.json.encode(wish))


def answer_of(directory: Path, wish: Wish) -> Answer | None:
    """Return the answer to `wish`, once it is there."""
    try:
        data = (directory / FOLDER / f"{wish.slot}.answer").read_bytes()
        found = msgspec.json.decode(data, type=Answer)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return found if found.id == wish.id else None


def take(directory: Path) -> list[Wish]:
    """Return the wishes that wait; what is no wish is removed."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix or path.name.startswith("."):
            continue
        try:
            found.append(msgspec.json.decode(path.read_bytes()[:MOST_BYTES], type=Wish))
        except (OSError, msgspec.MsgspecError):
            fsio.remove(path)
    return found


def answer(directory: Path, wish: Wish, error: AgentError | None, what: str) -> None:
    """Answer and remove a wish. Raises `RetryableError` where the disk is in the way."""
    said = Answer(id=wish.id, code=error.code if error else "", what=what)
    folder = directory / FOLDER
    fsio.write_atomic(folder / f"{wish.slot}.answer", msgspec.json.encode(said))
    fsio.remove(folder / wish.slot)
