"""The site: its links are those of the repository, and lead to the pages and files of the site."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("mkdocs") is None or find_spec("jieba") is None:
    if os.environ.get("CI") == "true":
        pytest.fail("`make site` installs mkdocs", pytrace=False)
    pytest.skip("`make site` installs mkdocs", allow_module_level=True)

from exporter import __version__
from release.site import pages, rewritten, url_of

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("language", "page", "link", "there"),
    [
        ("en", "README.md", "docs/operations.md#the-ledger", "operations.md#the-ledger"),
        ("en", "docs/operations.md", "../README.md", "index.md"),
        ("en", "docs/runbooks/OctopusTargetDown.md", "../operations.md#a", "../operations.md#a"),
        ("en", "README.md", "docs/images/status-page.png", "images/status-page.png"),
        ("en", "docs/operations.md", "../config.example.yaml", "files/config.example.yaml"),
        (
            "en",
            "docs/runbooks/README.md",
            "../../prometheus/settings.yaml",
            "../files/prometheus/settings.yaml",
        ),
        ("zh", "README.zh-CN.md", "docs/operations.zh-CN.md#a", "operations.md#a"),
        # Between the languages.
        ("en", "README.md", "README.zh-CN.md", "zh/"),
        ("en", "docs/operations.md", "operations.zh-CN.md", "../zh/operations/"),
        ("zh", "docs/operations.zh-CN.md", "operations.md#a", "../../operations/#a"),
        ("zh", "README.zh-CN.md", "CHANGELOG.md", "../changelog/"),
        # What stays.
        ("en", "README.md", "https://example.com/", "https://example.com/"),
        ("en", "README.md", "#metrics", "#metrics"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(
    language: str, page: str, link: str, there: str
) -> None:
    assert rewritten(f"[text]({link})", page, language) == f"[text]({there})"


def test_folders_are_in_the_repository_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPOSITORY_URL", "https://git.example/team/octopus-exporter")
    there = f"https://git.example/team/octopus-exporter/tree/v{__version__}/grafana/dashboards"
    assert rewritten("[a](../grafana/dashboards)", "docs/dashboards.md", "en") == f"[a]({there})"
    monkeypatch.delenv("REPOSITORY_URL")
    assert rewritten("[a](../grafana/dashboards)", "docs/dashboards.md", "en") == "[a](#)"


def test_code_stays() -> None:
    code = "`[a](docs/operations.md)`\n\n```md\n[a](docs/operations.md)\n```\n"
    assert rewritten(code, "README.md", "en") == code


def test_runbooks_are_where_alerts_look_for_them() -> None:
    """links.site of prometheus/settings.yaml."""
    for language in ("en", "zh"):
        runbooks = [source for page, source in pages(language).items() if re.search("/Octopus", page)]
        assert len(runbooks) == len(list((ROOT / "docs" / "runbooks").glob("Octopus*.md")))
        assert all(re.fullmatch(r"runbooks/Octopus\w+/", url_of(source)) for source in runbooks)
