"""The bundle: built for this machine, and installed and run where there is no network."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter import __version__
from release.wheels import PYTHONS
from tests.e2e.processes import Program, first_line, plain_environment, started

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NAME = f"octopus-exporter-{__version__}-bundle"
EPOCH = 1_790_000_000
# Becomes a command in a network namespace that has a loopback and nothing else.
_ISOLATED = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS: up
os.execv(sys.argv[1], sys.argv[1:])
"""
ISOLATED = ("unshare", "--net", "--map-root-user", sys.executable, "-c", _ISOLATED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it, without the image, and unpack it."""
    if PYTHON not in PYTHONS:
        pytest.skip(f"no wheels are bundled for Python {PYTHON}")
    folder = tmp_path_factory.mktemp("bundle")
    flags = ["--no-image", "--python", PYTHON, "--architecture", platform.machine(), "--output", folder]
    done = subprocess.run(
        [sys.executable, "-m", "release", "bundle", *flags],
        cwd=ROOT,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "left out of the bundle: the container image" in done.stdout
    with tarfile.open(folder / f"{NAME}.tar") as archive:
        assert {member.mtime for member in archive} == {EPOCH}
        archive.extractall(folder, filter="data")
    return folder / NAME


@pytest.fixture(scope="module")
def isolated() -> tuple[str, ...]:
    """Give the beginning of a command that has no network."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    if subprocess.run(
        [*ISOLATED, shutil.which("true") or "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    return ISOLATED


def install(bundle: Path, prefix: Path, isolated: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = plain_environment() | {"PYTHON": sys.executable, "PYTHONPATH": ""}
    return subprocess.run(
        [*isolated, "/bin/sh", bundle / "install.sh", prefix],
        cwd=bundle.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def demo(prefix: Path, folder: Path, isolated: tuple[str, ...]) -> Iterator[Program]:
    command = [*isolated, prefix / "bin" / "octopus-exporter", "demo", "--port", "0", "--jobs", "20"]
    with started(command, folder, name="demo", environment={"PYTHONPATH": ""}) as program:
        yield program


def test_it_is_installed_and_runs_without_a_network(
    bundle: Path, tmp_path: Path, isolated: tuple[str, ...]
) -> None:
    prefix = tmp_path / "prefix"
    # The second time is an upgrade.
    for _ in range(2):
        done = install(bundle, prefix, isolated)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"octopus-exporter {__version__}\n"
    with demo(prefix, tmp_path, isolated) as program:
        assert first_line(program, "status page ").startswith("http://127.0.0.1:")
        assert program.stop()[0] == 0
    # All extras are there.
    found = [prefix / "bin" / "python", "-c", "import huaweicloudsdkcore, psycopg"]
    subprocess.run(found, cwd=tmp_path, check=True)


def test_pip_alone_finds_all_of_it_too(bundle: Path, tmp_path: Path, isolated: tuple[str, ...]) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--isolated", "install", "--dry-run"]
    wheels = ["--no-index", "--find-links", bundle / "wheels", "--target", tmp_path / "there"]
    named = "octopus-exporter[huaweicloud,postgres]"
    done = subprocess.run([*isolated, *pip, *wheels, named], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("Would install ")]
    assert f"octopus-exporter-{__version__}" in found


def test_a_bundle_that_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed, copy_function=os.link)
    (changed / "config.example.yaml").unlink()
    (changed / "config.example.yaml").write_text("projects: []\n")
    done = install(changed, tmp_path / "prefix", ())
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "install.sh: this folder is not complete, or was changed"
    assert not (tmp_path / "prefix").exists()


def test_it_has_what_is_deployed(bundle: Path) -> None:
    for name in (
        "INSTALL.md",
        "INSTALL.zh-CN.md",
        "config.example.yaml",
        "deploy/systemd/octopus-exporter.service",
        "docs/operations.zh-CN.md",
        "grafana/dashboards/octopus-fleet.json",
        "prometheus/rules/octopus.yml",
    ):
        assert (bundle / name).is_file(), name
