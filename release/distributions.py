"""The wheel, the sdist, the chart's package and the bill of materials."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from exporter import __version__
from release.archives import pack
from release.wheels import LOCK

NAME = "octopus-exporter"
CHART = Path("deploy/helm/octopus-exporter")


def build_python(folder: Path) -> Path:
    """Build wheel and sdist; return the wheel. Raises: CalledProcessError."""
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(hatchling, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob(f"{NAME.replace('-', '_')}-{__version__}-*.whl")
    return wheel


def pack_chart(folder: Path) -> Path | None:
    """Pack the chart as `helm package` does, which writes other bytes each time; None where there is none."""
    if not (CHART / "Chart.yaml").is_file():
        return None
    version = next(
        line.split()[1].strip("\"'")
        for line in (CHART / "Chart.yaml").read_text(encoding="utf-8").splitlines()
        if line.startswith("version:")
    )
    ignored = [line.rstrip("/") for line in (CHART / ".helmignore").read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / CHART.name
        shutil.copytree(CHART, packed, ignore=shutil.ignore_patterns(*ignored))
        pack(packed, folder / f"{CHART.name}-{version}.tgz", CHART.name)
    return folder / f"{CHART.name}-{version}.tgz"


def write_bill_of_materials(folder: Path) -> Path:
    """Write what the locked installation consists of, as CycloneDX. Raises: CalledProcessError."""
    file = folder / f"{NAME}-{__version__}.cdx.json"
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "requirements",
        str(LOCK),
        "--pyproject",
        "pyproject.toml",
    ]
    options = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(file)]
    subprocess.run([*command, *options], check=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    bill = json.loads(file.read_text(encoding="utf-8"))
    # pyproject.toml does not have it: the version is in the code.
    bill["metadata"]["component"]["version"] = __version__
    file.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return file
