"""README "Run it" as a user follows it: its blocks pasted into a plain shell, without our own venv."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from exporter.simulator import SimulatorSettings
from tests.e2e.conftest import Simulate
from tests.e2e.waiting import PATIENCE_SECONDS, until
from tests.test_readme import ENGLISH, FENCE, ROOT, text_of

pytestmark = pytest.mark.e2e

PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INSTALLING_SECONDS = 300.0
PROJECT = "087679f0aa000000000000002f5e902b"


def run_it() -> list[str]:
    """Give the shell blocks of the section, up to the container."""
    section = text_of(ENGLISH).partition("\n## Run it\n")[2].partition("\nOr as a container")[0]
    assert section
    return [body for kind, body in FENCE.findall(section) if kind == "sh"]


def clone(folder: Path) -> None:
    """Copy what git would clone, with the changes that are not committed yet."""
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def edited(script: str, api: str) -> str:
    """Put in what a user puts in: the account, and here the address of a simulator in place of a region."""
    account = SimulatorSettings().credentials
    names = f"OCTOPUS_DOMAIN={account.domain} OCTOPUS_USER={account.user} OCTOPUS_PASSWORD={account.password}"
    for old, new in (
        ("region: cn-north-11", f"endpoint: {api}"),
        ("type: password", f"type: password\n    iam_endpoint: {api}"),
        ("OCTOPUS_DOMAIN=account OCTOPUS_USER=user OCTOPUS_PASSWORD=password", names),
        # Another port than its own, which other tests may have; and no shell in between for a signal.
        ("octopus-exporter run ", "exec octopus-exporter run --web.listen-address=127.0.0.1:0 "),
    ):
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    return script


def bare(home: Path) -> dict[str, str]:
    """Give the environment of a fresh login; what leads to a package index stays."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_CERT")) or name.lower().endswith("_proxy")
    }
    return kept | {"HOME": str(home), "PATH": PLAIN_PATH, "LANG": "C.UTF-8", "NO_PROXY": "127.0.0.1"}


def has_venv() -> bool:
    """Tell whether the machine's own Python is recent enough, and makes virtual environments."""
    python = shutil.which("python3", path=PLAIN_PATH)
    asked = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    return python is not None and subprocess.run([python, "-c", asked], check=False).returncode == 0


def test_the_blocks_work_one_after_the_other(tmp_path: Path, simulate: Simulate) -> None:
    if not has_venv():
        assert not os.environ.get("CI"), "CI is to have python3 and python3-venv of Debian"
        pytest.skip("no python3 of 3.11 or later with venv outside of ours")
    simulator = simulate(projects=[PROJECT])
    home, folder = tmp_path / "home", tmp_path / "clone"
    home.mkdir()
    clone(folder)
    script = edited("\n".join(run_it()), simulator.url)
    environment = bare(home)
    with (
        (tmp_path / "out").open("w+") as out,
        subprocess.Popen(
            ["/bin/bash", "-e", "-c", script], cwd=folder, env=environment, stdout=out, stderr=out
        ) as shell,
    ):
        try:

            def said() -> str:
                text = (tmp_path / "out").read_text()
                assert shell.poll() is None, text
                return text

            until(lambda: "first listing: 300 jobs in" in said(), "a first listing", INSTALLING_SECONDS)
            assert "config.yaml: valid" in said()
            assert re.search(r"msg=listening url=http://127\.0\.0\.1:\d+/ ", said())
            shell.terminate()
            assert shell.wait(PATIENCE_SECONDS) == 0
        finally:
            shell.kill()
    assert (folder / "octopus-ledger.db").is_file()
    assert "command not found" not in (tmp_path / "out").read_text()
