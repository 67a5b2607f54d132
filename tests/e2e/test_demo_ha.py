"""`make demo-ha`: two exporters on a private PostgreSQL server, and nothing is left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from signal import SIGINT, SIGKILL

import pytest

from tests.e2e.http import ask
from tests.e2e.processes import Program, first_line, free_port, plain_environment, started
from tests.e2e.waiting import until
from tests.postgres import needed, server_programs

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "demo_ha.py"


def test_one_exporter_takes_over_from_the_other_and_nothing_is_left_behind(tmp_path: Path) -> None:
    needed(server_programs())
    # Not in pytest's folder: the server's user may not look there, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="octopus-demo-", dir="/tmp") as folder:
        home = Path(folder)
        home.chmod(0o755)
        command = (sys.executable, SCRIPT, "--port", str(free_port()), "--lease", "3s")
        with started(command, tmp_path, name="demo", environment={"TMPDIR": folder}) as demo:
            url = first_line(demo, "exporter 2   ")
            killed = int(first_line(demo, "Try:  kill -9 "))
            until(lambda: all(held(demo, number) == 4 for number in (1, 2)), "an even share for both")
            os.kill(killed, SIGKILL)
            until(lambda: held(demo, 2) == 8, "a takeover")
            assert "exporter 1 has ended (SIGKILL)" in demo.output
            assert ask(f"{url}-/ready").status == 200
            assert demo.stop(SIGINT)[0] == 0
        # The server may have been answering the exporter when that was killed.
        assert [line for line in demo.errors.splitlines() if "connection to client lost" not in line] == []
        assert list(home.iterdir()) == []
    listed = subprocess.run(("ps", "-eo", "args"), capture_output=True, text=True, check=True)
    assert folder not in listed.stdout


def held(demo: Program, exporter: int) -> int | None:
    """Give how many targets it holds, by the last line that says so."""
    found = re.findall(rf"exporter {exporter} holds (\d+) of 8 targets", demo.output)
    return int(found[-1]) if found else None


def test_without_postgresql_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "demo_ha.py").write_text(
        SCRIPT.read_text().replace('Path("/usr/lib/postgresql")', f'Path("{tmp_path}")')
    )
    done = subprocess.run(
        (sys.executable, tmp_path / "demo_ha.py"),
        env=plain_environment() | {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "demo-ha: PostgreSQL is not installed: on Debian and Ubuntu, apt-get install postgresql\n"
    )
