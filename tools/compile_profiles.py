"""Write what is made from the profiles' YAML files: the devices' table and the schema.

Run it after every change of a profile; a test fails until it was.
"""

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from modelfleet_manifests.profiles.definition import schema
from modelfleet_server.builds.profiles import shipped_profiles

FOLDER = Path(__file__).parents[1] / "manifests" / "modelfleet_manifests" / "profiles"
HEAD = '''"""Which devices fit which profile, most specific first.

Made from the YAML files beside it by tools/compile_profiles.py: change those.
"""

from modelfleet_manifests.profiles.detection import Detect

PROFILES: dict[str, Detect] = {
'''


def table() -> str:
    """Return the source of the devices' table."""
    lines, exported = [HEAD], []
    for profile in shipped_profiles().values():
        if profile.detect is None:
            exported.append(profile.name)
            continue
        rules = msgspec.to_builtins(profile.detect)
        words = ", ".join(f"{key}={json.dumps(value)}" for key, value in rules.items())
        lines.append(f'    "{profile.name}": Detect({words}),\n')
    (name,) = exported
    lines.append("}\n\n# Artefacts for it are exported; no agent ever fits this profile.\n")
    lines.append(f'EXPORT_ONLY = "{name}"\n')
    command = ["ruff", "format", "--stdin-filename", "table.py", "-"]
    ruff = Path(sys.executable).with_name(command[0])
    return subprocess.run(
        [ruff, *command[1:]],
        input="".join(lines),
        capture_output=True,
        text=True,
        check=True,
        cwd=FOLDER,
    ).stdout


def schema_text() -> str:
    """Return the published schema of a profile's file."""
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    (FOLDER / "table.py").write_text(table())
    (FOLDER / "profile.schema.json").write_text(schema_text())
