"""
Sets the metadata that depends on where the repository is: REPOSITORY_URL, which the release workflow knows.

With it, the package has `project.urls`, and the links of the README lead into the repository at this version:
on PyPI, a relative link leads nowhere. Without it there are no URLs, and the README is as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PAGES = {
    "Homepage": "",
    "Documentation": "/blob/v{version}/docs/operations.md",
    "Changelog": "/blob/v{version}/CHANGELOG.md",
    "Source": "",
    "Issues": "/issues",
}
_LINK = re.compile(r"(\]\()(?!https?://|#|mailto:)([^)\s]+)(\))")
_IMAGES = (".png", ".svg")


class RepositoryMetadata(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        version = self._version()
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if repository:
            text = with_absolute_links(text, repository, version)
            metadata["urls"] = {
                name: repository + path.format(version=version) for name, path in _PAGES.items()
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}

    def _version(self) -> str:
        code = (Path(self.root) / "exporter" / "__init__.py").read_text(encoding="utf-8")
        return re.findall(r'^__version__ = "(.+)"$', code, re.MULTILINE)[0]


def with_absolute_links(text: str, repository: str, version: str) -> str:
    """Let relative links lead to the files of this version."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[2].endswith(_IMAGES) else "blob"
        return f"{link[1]}{repository}/{kind}/v{version}/{link[2]}{link[3]}"

    return _LINK.sub(absolute, text)
