"""`modelfleet` without its extra says which one to install."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "modelfleet_server.cli":  # as if it imported what is not installed
            raise ModuleNotFoundError("No module named " + sys.argv[1], name=sys.argv[1])
sys.meta_path.insert(0, Missing())
from modelfleet_server.main import main
main()
"""


def run_without(package: str) -> subprocess.CompletedProcess[str]:
    paths = f"{ROOT / 'server'}:{ROOT / 'manifests'}"
    return subprocess.run(
        [sys.executable, "-c", RUN, package],
        env={"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("package", ["fastapi", "typer", "obstore"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(package: str) -> None:
    done = run_without(package)
    assert done.returncode == 1
    assert done.stderr == (
        f'modelfleet: {package} is not installed. Run: pip install "modelfleet[server]"\n'
    )


def test_a_missing_module_of_our_own_is_a_defect_and_not_an_extra() -> None:
    done = run_without("modelfleet_server.gone")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr
