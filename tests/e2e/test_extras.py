"""What works without the extras (the official SDK, psycopg), and what is said where they are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, access_key
from tests.e2e.processes import plain_environment, run

pytestmark = pytest.mark.e2e

TO_INSTALL = (
    "octopus-exporter: credentials.default.type: chain needs the official SDK: "
    'pip install "octopus-exporter[huaweicloud]"\n'
)

DRIVER_TO_INSTALL = (
    "octopus-exporter: ledger.url: postgresql needs the driver psycopg 3: "
    'pip install "octopus-exporter[postgres]"\n'
)


@pytest.fixture
def without_sdk(tmp_path: Path) -> str:
    return without(tmp_path, "huaweicloudsdkcore")


def without(tmp_path: Path, package: str) -> str:
    """Give a PYTHONPATH with which a process does not find a package, as where the extra is not installed."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{package!r}] = None\n")
    return f"{tmp_path}:{plain_environment()['PYTHONPATH']}"


@pytest.mark.parametrize("command", ["check", "run", "once", "audit"])
def test_a_chain_without_the_sdk_says_what_to_install(tmp_path: Path, without_sdk: str, command: str) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:9")
    exporter.config["credentials"] = {"default": {"type": "chain"}}
    done = run((command, "--config", exporter.write()), tmp_path, PYTHONPATH=without_sdk)
    assert (done.returncode, done.stderr, done.stdout) == (2, TO_INSTALL, "")


@pytest.mark.parametrize("command", ["check", "run", "once", "audit", "jobs"])
def test_postgresql_without_its_driver_says_what_to_install(tmp_path: Path, command: str) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:9")
    exporter.config["ledger"] = {"url": "postgresql://octopus:pw@127.0.0.1:9/octopus"}
    done = run((command, "--config", exporter.write()), tmp_path, PYTHONPATH=without(tmp_path, "psycopg"))
    assert (done.returncode, done.stderr, done.stdout) == (2, DRIVER_TO_INSTALL, "")


def test_a_chain_with_the_sdk_is_valid(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:9")
    exporter.config["credentials"] = {"default": {"type": "chain"}}
    assert run(("check", "--config", exporter.write()), tmp_path).returncode == 0


def test_an_access_key_needs_no_sdk(tmp_path: Path, without_sdk: str, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    exporter.config["credentials"] = {"default": access_key()}
    done = run(("once", "--config", exporter.write()), tmp_path, PYTHONPATH=without_sdk)
    assert done.returncode == 0, done.stderr
    assert "\noctopus_up{" in done.stdout
