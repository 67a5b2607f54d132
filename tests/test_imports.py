"""What a command must not import, because it does not use it (docs/architecture.md)."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from exporter.commands.lean_imports import lean_imports

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


def test_run_imports_no_part_that_it_may_never_use(tmp_path: Path) -> None:
    """Nor do they come in by a library: structlog would import rich, and rich pygments."""
    file = tmp_path / "config.yaml"
    file.write_text(
        f"""
projects: [{{id: 0a1b2c3d4e5f60718293a4b5c6d7e8f9, endpoint: "http://127.0.0.1:9", workspaces: ["0"]}}]
credentials: {{default: {{type: token, token: any}}}}
ledger: {{url: "sqlite:///{tmp_path / "ledger.db"}"}}
web: {{listen: ["127.0.0.1:0"]}}
"""
    )
    command = [sys.executable, "-X", "importtime", "-m", "exporter", "run", "--config", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        errors = []
        for line in process.stderr:
            errors.append(line)
            if found := re.search(r"msg=listening url=(\S+)", line):
                with build_opener(ProxyHandler({})).open(f"{found[1]}-/healthy") as answer:
                    assert answer.status == 200
                process.send_signal(signal.SIGTERM)
    modules = imported("".join(errors))
    assert process.returncode == 0
    assert "exporter.runtime" in modules
    assert packages(modules) & {"bcrypt", "huaweicloudsdkcore", "jinja2", "pygments"} == set()
    # `rich` itself is listed: structlog tries, and is told that there is none.
    assert not any(module.startswith("rich.") for module in modules)
    unused = ("commands.check", "commands.demo", "rules", "simulator", "web.toolkit")
    assert {module for module in modules if module.removeprefix("exporter.").startswith(unused)} == set()


def test_lean_imports_leave_everything_as_it_was() -> None:
    load_authorities, rich = ssl.SSLContext.load_default_certs, sys.modules.get("rich")
    with lean_imports():
        pass
    assert ssl.SSLContext.load_default_certs is load_authorities
    assert sys.modules.get("rich") is rich
