"""The table of faults in docs/operations.md: each row is whole, and a test holds what it says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("\n## Faults\n")[2]
TABLES = SECTION.partition("\n## ")[0]
HEAD = "| fault | what happens | what to do | test |"
ROWS = [line for line in TABLES.splitlines() if line.startswith("| ") and line != HEAD]


@cache
def names_in(file: str) -> frozenset[str]:
    """Give the tests of a file as pytest names them: those of a class behind its name."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return frozenset(
        f"{prefix}{node.name}"
        for prefix, body in [("", tree.body), *((f"{c.name}::", c.body) for c in classes_of(tree))]
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def classes_of(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def test_there_are_tables_of_faults() -> None:
    assert ROWS
    assert TABLES.count("\n|---") == TABLES.count(HEAD) >= 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_each_fault_names_tests_that_exist(row: str) -> None:
    fault, happens, do, tests = (cell.strip() for cell in row.strip("|").split("|"))
    assert fault
    assert happens
    assert do
    named = re.findall(r"`((?:e2e/)?test_\w+\.py)::((?:Test\w+::)?test_\w+)`", tests)
    assert named
    assert ", ".join(f"`{file}::{name}`" for file, name in named) == tests
    assert [name for file, name in named if name not in names_in(file)] == []


def test_no_fault_is_there_twice() -> None:
    faults = [row.split("|")[1].strip() for row in ROWS]
    assert len(set(faults)) == len(faults)
