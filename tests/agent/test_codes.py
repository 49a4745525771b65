"""Codes are for machines: every line of the log begins with one, and all are documented."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import modelfleet_agent
import modelfleet_manifests

PACKAGE = Path(str(modelfleet_agent.__file__)).parent
DOCUMENTS = Path(str(modelfleet_manifests.__file__)).parent
PAGE = Path(__file__).parents[2] / "docs" / "codes.md"
CODE = re.compile(r"(?:E|MF)_[A-Z][A-Z0-9_]*[A-Z0-9]")
LEVELS = {"info", "warning", "error", "exception", "critical"}
# `history.tell` begins each line with the code of its row
COMPOSED = {"history.py": "%s"}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    # what is wrong with a document is named where documents are read
    for path in sorted([*PACKAGE.rglob("*.py"), *DOCUMENTS.glob("*.py")]):
        yield path, ast.parse(path.read_text())


def said(path: Path, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield place and text of every line that the module may log."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        holder = node.func.value
        if node.func.attr in LEVELS and isinstance(holder, ast.Name) and holder.id == "log":
            text = node.args[0]
            assert isinstance(text, ast.Constant), f"{path}:{node.lineno}"
            yield f"{path.name}:{node.lineno}", str(text.value)


def codes() -> set[str]:
    """Return every code that is a string of the agent, or begins one."""
    found = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                match = CODE.match(node.value)
                if match:
                    found.add(match[0])
    return found


def documented() -> set[str]:
    rows = (line for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    return {code for row in rows for code in CODE.findall(row.split("|")[1])}


def test_every_line_of_the_log_begins_with_a_code() -> None:
    lines = [pair for path, tree in trees() for pair in said(path, tree)]
    assert len(lines) > 30
    without = [
        (place, text)
        for place, text in lines
        if not CODE.match(text) and COMPOSED.get(place.partition(":")[0]) != text
    ]
    assert without == []


def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    assert codes() - documented() == set()
    assert documented() - codes() == set()
