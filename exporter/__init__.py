"""Prometheus exporter for the system jobs of Huawei Cloud Octopus."""

from pathlib import Path

__version__ = "0.1.0"

_PACKAGE = Path(__file__).parent
# pyproject.toml puts the files that ship beside the code into this folder of the wheel. In a checkout they
# are at the root of the repository.
_INSTALLED = _PACKAGE / "shipped_files"


def shipped_path(name: str) -> Path:
    """Return the path of a file or folder that ships beside the code, by its path in the repository."""
    return (_INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent) / name
