"""What is installed from the wheel, outside the checkout and without the development tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distributions
from pathlib import Path

import pytest

from exporter.rules import RULES
from tests.e2e.http import ask
from tests.e2e.processes import first_line, plain_environment, started
from tests.e2e.prometheus import program
from tests.test_files import RULE_FILE, below, written

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the console script of a fresh environment: the wheel, and what its lock names."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    link_locked(packages)
    (wheel,) = folder.glob("*.whl")
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    return python.with_name("octopus-exporter")


def link_locked(packages: Path) -> None:
    """Link what the lock installs to run the exporter from this environment, and nothing else."""
    locked = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
    here = {canonical(one.metadata["Name"]): one for one in distributions()}
    # What the lock has for other platforms is not here.
    for name in here.keys() & set(map(canonical, re.findall(r"^([\w.-]+)", locked, re.MULTILINE))):
        files = here[name].files or ()
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(here[name].locate_file(top))))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run(installed: Path, folder: Path, *arguments: str) -> str:
    environment = plain_environment() | {"PYTHONPATH": ""}
    done = subprocess.run(
        [installed, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    code = "import exporter; from importlib.util import find_spec; "
    code += "print(exporter.__file__, find_spec('grafana_foundation_sdk'))"
    done = subprocess.run(
        [installed.with_name("python"), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    where, sdk = done.stdout.split()
    assert Path(where).is_relative_to(installed.parents[1])
    assert sdk == "None"


def test_the_demo_needs_no_clone(installed: Path, tmp_path: Path) -> None:
    command = (installed, "demo", "--port", "0", "--jobs", "20")
    with started(command, tmp_path, name="demo", environment={"PYTHONPATH": ""}) as program:
        page = ask(first_line(program, "status page "))
        assert page.status == 200
        assert program.stop()[0] == 0


def test_config_is_the_example(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "files", "config") == (ROOT / "config.example.yaml").read_text("utf-8")


@pytest.mark.prometheus
def test_rules_are_the_shipped_or_ones_own(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "files", "rules") == RULE_FILE.read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("spike: {least: 9.5}\nkeep_labels: [cluster]\n")
    run(installed, tmp_path, "files", "rules", "--settings", "mine.yaml", "--output", "rules")
    text = (tmp_path / "rules" / RULES).read_text(encoding="utf-8")
    assert "9.5" in text
    checked = [program("promtool"), "check", "rules", "--lint-fatal", tmp_path / "rules" / RULES]
    assert subprocess.run(checked, capture_output=True, check=False).returncode == 0


def test_dashboards_are_all_of_them_with_provisioning(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "files", "dashboards", "--output", "grafana")
    assert written(tmp_path / "grafana") == below("dashboards") | below("provisioning")


def test_units_start_the_program_that_is_installed(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "files", "units", "--output", "units")
    service = (tmp_path / "units" / "octopus-exporter.service").read_text()
    assert f"\nExecStart={installed} run --config /etc/octopus-exporter/config.yaml $ARGS\n" in service


def test_systemd_takes_the_units(installed: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    run(installed, tmp_path, "files", "units", "--output", "units")
    units = [tmp_path / "units" / f"octopus-exporter.{kind}" for kind in ("service", "socket")]
    # The drop-in is for the versions that do not know the type.
    added = tmp_path / "units" / "octopus-exporter.service.d"
    added.mkdir()
    (tmp_path / "units" / "octopus-exporter-before-253.conf").rename(added / "before-253.conf")
    verify = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if not line.endswith("ignoring: notify-reload")]
    assert (done.returncode, told) == (0, [])
    exposure = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", units[0]]
    assert subprocess.run(exposure, capture_output=True, check=False).returncode == 0
