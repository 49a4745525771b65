"""Every test that the page of threats names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threats.md"


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+|Test\w+)`", PAGE.read_text()))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(
        re.findall(
            r"^(?:    )?(?:async )?def (test_\w+)|^(?:class )?(Test\w+)",
            sources,
            re.MULTILINE,
        )
    )
    assert named - {one for pair in there for one in pair} == set()
    assert len(named) > 80
