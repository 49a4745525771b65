"""What the documents say is what the code does, as far as a machine can tell."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    missing = [link for link in targets if not (page.parent / link).exists()]
    assert missing == []


def test_the_page_of_states_is_written_from_the_tables() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "state_tables.py"))
    assert tool["PAGE"].read_text() == tool["write_page"](), "run tools/state_tables.py"


def test_every_room_of_the_code_is_named_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [
        room.name.removesuffix(".py")
        for package in ("server/modelfleet_server", "agent/modelfleet_agent")
        for room in (ROOT / package).iterdir()
        if not room.name.startswith(("_", ".")) and room.suffix in {"", ".py"}
    ]
    assert [room for room in rooms if f"`{room}" not in text] == []
