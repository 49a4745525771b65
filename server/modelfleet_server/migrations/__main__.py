"""`python -m modelfleet_server.migrations first | revision "why"`: write a revision.

For developers, in a checkout. It works on a temporary SQLite database.
"""

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import Script

from modelfleet_server.kit.db import Database
from modelfleet_server.migrations import FOLDER, alembic_config, load_tables, upgrade

log = logging.getLogger("modelfleet_server.migrations")
VERSIONS = FOLDER / "versions"


def write_revision(number: str, why: str, *, from_empty: bool) -> Path | None:
    """Write revision `number` from the difference between revisions and tables.

    Returns:
        The new file, None if there is no difference.
    """
    load_tables()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/scratch.db")
        if not from_empty:
            upgrade(database)
        with database.write() as session:
            config = alembic_config(session.connection())
            script = command.revision(config, why, autogenerate=True, rev_id=number)
        database.close()
    if not isinstance(script, Script):
        return None
    path = Path(script.path)
    for step in (["format"], ["check", "--fix"], ["format"]):
        command_line = [sys.executable, "-m", "ruff", *step, "--quiet", str(path)]
        subprocess.run(command_line, check=True)  # noqa: S603
    return path


def main(arguments: list[str]) -> int:
    """Run one of the two commands; 0 when a file was written, 1 when there was no need."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    numbers = sorted(path.stem.partition("_")[0] for path in VERSIONS.glob("0*_*.py"))
    match arguments:
        case ["first"]:
            if len(numbers) > 1:
                log.error("there are later revisions: write the next one instead")
                return 2
            for path in VERSIONS.glob("0001_*.py"):
                path.unlink()
            written = write_revision("0001", "first", from_empty=True)
        case ["revision", why]:
            written = write_revision(f"{len(numbers) + 1:04}", why, from_empty=False)
        case _:
            log.error(__doc__)
            return 2
    log.info("wrote %s", written.name if written else "nothing: no difference")
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
