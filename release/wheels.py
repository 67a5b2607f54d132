"""The wheels that an installation without a package index needs, for each supported machine and Python."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from release.archives import sha256

LOCK = Path("requirements/run.txt")
RELEASE_LOCK = Path("requirements/release.txt")
# aarch64 is what Kunpeng servers are.
MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# glibc 2.28 is that of openEuler 20.03 and of all later systems that have such a Python.
_TAGS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture with a Python."""

    architecture: str
    python: str

    @property
    def marker_environment(self) -> dict[str, str]:
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.architecture,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def locked(lock: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """Read a lock: each requirement with its hashes."""
    text = re.sub(r"^#.*\n", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for entry in re.split(r"\n(?! )", text.strip()):
        first, *hashes = (part.strip() for part in entry.replace("\\\n", "\n").split("\n"))
        yield Requirement(first), hashes


def download(machines: Sequence[Machine], folder: Path, scratch: Path) -> None:
    """Get the locked wheels of these machines, and the pip that installs them. Raises: CalledProcessError."""
    for machine in machines:
        # pip would judge the markers by the Python that it runs on.
        lines = [
            " ".join([f"{requirement.name}{requirement.specifier}", *hashes])
            for requirement, hashes in locked(LOCK)
            if requirement.marker is None or requirement.marker.evaluate(machine.marker_environment)
        ]
        asked = scratch / f"{machine.architecture}-{machine.python}.txt"
        asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
        tags = [part for tag in _TAGS for part in ("--platform", f"{tag}_{machine.architecture}")]
        _pip_download(asked, folder, "--implementation", "cp", "--python-version", machine.python, *tags)
    pip = next((one, hashes) for one, hashes in locked(RELEASE_LOCK) if one.name == "pip")
    (scratch / "pip.txt").write_text(" ".join([str(pip[0]), *pip[1]]) + "\n", encoding="utf-8")
    _pip_download(scratch / "pip.txt", folder)


def _pip_download(asked: Path, folder: Path, *options: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    only = ["--only-binary=:all:", "--require-hashes", "--dest", str(folder), "--requirement", str(asked)]
    subprocess.run([*pip, *only, *options], check=True)


def offline_requirements(folder: Path) -> str:
    """Return the requirements that these wheels meet, with the hashes of these wheels and no others."""
    markers = {canonicalize_name(one.name): one.marker for one, _ in locked(LOCK)}
    found: dict[tuple[str, str], list[str]] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        if name != "pip":
            found.setdefault((name, str(version)), []).append(f"--hash=sha256:{sha256(wheel)}")
    lines = []
    for (package, exact), hashes in found.items():
        marker = markers.get(canonicalize_name(package))
        wanted = f"{package}=={exact}" + (f" ; {marker}" if marker else "")
        lines.append(" \\\n    ".join([wanted, *hashes]))
    return "\n".join(lines) + "\n"
