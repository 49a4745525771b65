"""The command `modelfleet`, run as people run it.

`Commands.run` starts the real program; `Commands.call` runs the same `main` in this
process, ten times as fast, for the many tests that are not about the process.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from modelfleet_server.cli import main

ROOT = Path(__file__).parents[2]
RUN = "import sys; from modelfleet_server.main import main; sys.exit(main())"
PATHS = os.pathsep.join(str(ROOT / part) for part in ("server", "agent", "manifests"))


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What `--json` printed; nothing else may be there."""
        assert self.code in {0, 3}, self.err
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error that `--json` told; standard output is empty then."""
        assert self.out == "", self.out
        return dict(json.loads(self.err.splitlines()[-1])["error"])


@dataclass
class Commands:
    """Runs commands as one user.

    Attributes:
        folder: Of the user: login file, working directory.
        environ: Added to what every command gets.
    """

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def acting(self, **environ: str) -> "Commands":
        """Return commands with other variables."""
        return Commands(self.folder, {**self.environ, **environ})

    @property
    def variables(self) -> dict[str, str]:
        """The whole environment; nothing of ours is inherited."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": PATHS,
            "MODELFLEET_CONFIG": str(self.folder / "login.json"),
            **self.environ,
        }

    def run(self, *arguments: str | Path, input_: str = "") -> Done:
        """Run the command as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", RUN, *map(str, arguments)],
            env=self.variables,
            cwd=self.folder,
            input=input_,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def call(self, *arguments: str | Path) -> Done:
        """Run the command in this process; nobody is there to be asked."""
        out, err = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.variables, clear=True),
            patch.object(sys, "stdin", io.StringIO()),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = main([str(one) for one in arguments])
        return Done(code, out.getvalue(), err.getvalue())
