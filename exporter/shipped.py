"""Where the files that ship beside the code are: in the installed package, or in the checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
# pyproject.toml puts these files into the wheel, in this folder, under their names in the repository.
_INSTALLED = _PACKAGE / "shipped_files"


def shipped(name: str) -> Path:
    """Give the path of a file or folder by its path in the repository."""
    return (_INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent) / name
