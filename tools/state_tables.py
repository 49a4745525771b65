"""Write docs/states.md from the tables of the state machines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelfleet_agent.update import phases
from modelfleet_server.builds import domain as builds
from modelfleet_server.catalog import domain as catalog
from modelfleet_server.deltas import domain as deltas
from modelfleet_server.jobs import domain as jobs
from modelfleet_server.rollouts import domain as rollouts
from modelfleet_server.trust import domain as trust

PAGE = Path(__file__).parents[1] / "docs" / "states.md"

HEAD = """# States

Each machine is one table in the code. On the server a move that is not in its table is
refused; on a device it changes nothing, since messages repeat. This page is written from
the tables by `python tools/state_tables.py`; a test compares them.
"""

SERVER: dict[str, tuple[str, Mapping[Any, Any]]] = {
    "A rollout": ("rollouts/domain.py", rollouts.MOVES),
    "A version of a model": ("catalog/domain.py", catalog.MOVES),
    "A build": ("builds/domain.py", builds.MOVES),
    "A delta": ("deltas/domain.py", deltas.MOVES),
    "A job": ("jobs/domain.py", jobs.MOVES),
    "A proposal": ("trust/domain.py", trust.MOVES),
}


def write_page() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    for title, (where, moves) in SERVER.items():
        parts.append(f"\n## {title}\n\n`server/modelfleet_server/{where}`\n\n")
        parts.append(_table(("from", "event", "to"), _server_rows(moves)))
    parts.append(
        "\n## An update of a slot\n\n`agent/modelfleet_agent/update/phases.py`: "
        "the phase is journalled before its effect runs.\n\n"
    )
    rows = [
        (str(phase), str(event), str(move.phase), str(move.effect))
        for (phase, event), move in phases.TABLE.items()
    ]
    parts.append(_table(("from", "event", "to", "effect"), rows))
    return "".join(parts)


def _server_rows(moves: Mapping[Any, Any]) -> list[tuple[str, ...]]:
    return [(str(state), str(event), str(after)) for (state, event), after in moves.items()]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(write_page())
