"""What a command must not import, because it does not use it (docs/architecture.md)."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LISTED = "import time:"


def imported(errors: str) -> set[str]:
    """Name the modules in the lines that `python -X importtime` writes to standard error."""
    return {line.rpartition("|")[2].strip() for line in errors.splitlines() if line.startswith(_LISTED)}


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_question_about_the_program_imports_none_of_its_parts(option: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "exporter", option]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = imported(done.stderr)
    assert "octopus-exporter" in done.stdout
    assert {module for module in modules if module.startswith("exporter")} == {
        "exporter",
        "exporter.cli",
        "exporter.commands",
        "exporter.commands.choices",
        "exporter.commands.options",
        "exporter.commands.output",
        "exporter.errors",
    }
    assert packages(modules) & {"aiohttp", "asyncio", "pydantic", "rich", "ssl", "structlog", "yaml"} == set()
