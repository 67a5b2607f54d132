"""
The hooks of mkdocs.yml: they make a site of pages that lie where the repository has them.

Each language is a site of its own, so that its words and its search are in that language: English at the
root, Chinese below zh/. Runbooks have both languages on one page and are part of both. Links are those of the
repository; here they become those of the site. What is no page, such as an example, is a file of the site.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jieba
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from exporter import __version__

ROOT = Path(__file__).parent.parent
CHINESE = ".zh-CN.md"
PREFIXES = {"en": "", "zh": "zh/"}
# Pages outside docs/, by where they are in the site.
_OUTSIDE = {
    "README.md": "index.md",
    "prometheus/README.md": "rules.md",
    "deploy/helm/octopus-exporter/README.md": "chart.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
# The pages of the navigation by what they are about; the rest is listed under the last title.
_SECTIONS = {
    ("Run it", "运行"): (
        "operations",
        "kubernetes",
        "huawei-cloud",
        "web-configuration",
        "first-contact",
        "backfill",
        "chart",
    ),
    ("Look at it", "查看"): ("status-page", "dashboards", "metrics", "status-api", "events"),
    ("Alerts", "告警"): ("rules",),
    ("More", "更多"): (),
}
_TITLES = {"index.md": ("Overview", "概览"), "chart.md": ("Helm chart", "Helm chart")}
_ICON = "exporter/web/status/static/icon.svg"
_RUNBOOKS = ("Runbooks", "处理手册")
_CODE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@functools.cache
def pages(language: str) -> dict[str, str]:
    """Return where the pages of a language are: in the site, by where they are in the repository."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / "docs").rglob("*.md")):
        name = file.relative_to(ROOT / "docs").as_posix()
        is_chinese = name.endswith(CHINESE)
        if is_chinese == (language == "zh") or name.startswith("runbooks/"):
            found[f"docs/{name}"] = name.replace(CHINESE, ".md")
    for english, there in _OUTSIDE.items():
        name = english.replace(".md", CHINESE) if language == "zh" else english
        if (ROOT / name).is_file():
            found[name] = there
    return found


def url_of(source: str) -> str:
    """Return the address of a page of the site, below the root of its language."""
    folder, name = posixpath.split(source)
    stem = name.removesuffix(".md")
    return posixpath.join(folder, "" if stem in {"index", "README"} else f"{stem}/")


def rewritten(text: str, page: str, language: str) -> str:
    """Turn the links of a page, given by its path in the repository, into links of the site."""
    parts = _CODE.split(text)
    # Every second part is code.
    parts[::2] = [
        _LINK.sub(lambda link: f"]({_target(link[1], page, language)})", part) for part in parts[::2]
    ]
    return "".join(parts)


def _target(link: str, page: str, language: str) -> str:
    if "://" in link or link.startswith(("#", "mailto:")):
        return link
    path, hash_, anchor = link.partition("#")
    there = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    here = pages(language)
    source = here[page]
    if there in here:
        return posixpath.relpath(here[there], posixpath.dirname(source) or ".") + hash_ + anchor
    other = "en" if language == "zh" else "zh"
    if there in pages(other):
        between = posixpath.relpath(
            PREFIXES[other] + url_of(pages(other)[there]) or ".", PREFIXES[language] + url_of(source) or "."
        )
        return f"{between}/{hash_}{anchor}"
    if (ROOT / there).is_file():
        return posixpath.relpath(_file_source(there), posixpath.dirname(source) or ".")
    repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
    # A folder is nowhere in the site.
    return f"{repository}/tree/v{__version__}/{there}" if repository else "#"


def _file_source(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/images/") else f"files/{path}"


def _linked_files(language: str) -> Iterator[str]:
    for page in pages(language):
        text = _CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))
        for link in _LINK.findall(text):
            there = posixpath.normpath(posixpath.join(posixpath.dirname(page), link.partition("#")[0]))
            if "://" not in link and (ROOT / there).is_file() and there not in pages("en") | pages("zh"):
                yield there


# -- what mkdocs calls ------------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the pages of this language in place of what is in docs/."""
    language = config.extra["language"]
    # Of those that are there, the theme's own.
    kept = [file for file in files if not (ROOT / "docs" / file.src_uri).is_file()]
    sources = pages(language) | {file: _file_source(file) for file in sorted(set(_linked_files(language)))}
    sources[_ICON] = "images/icon.svg"
    made = [File.generated(config, source, abs_src_path=str(ROOT / path)) for path, source in sources.items()]
    return Files([*kept, *made])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    language = config.extra["language"]
    (path,) = (path for path, source in pages(language).items() if source == page.file.src_uri)
    repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
    page.edit_url = f"{repository}/edit/main/{path}" if repository else None
    return rewritten(markdown, path, language)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation: a new one needs no entry."""
    jieba.setLogLevel("WARNING")
    language = config.extra["language"]
    number = 1 if language == "zh" else 0
    left = {source: None for source in pages(language).values() if not source.startswith("runbooks/")}
    left.pop("index.md")
    nav: list[Any] = [{_TITLES["index.md"][number]: "index.md"}]
    for titles, names in _SECTIONS.items():
        wanted: list[Any] = [f"{name}.md" for name in names if f"{name}.md" in left] if names else list(left)
        for source in wanted:
            del left[source]
        # The others are named by their headings.
        wanted = [{_TITLES[one][number]: one} if one in _TITLES else one for one in wanted]
        if titles[0] == "Alerts":
            runbooks = sorted(
                name for name in pages(language).values() if name.startswith("runbooks/Octopus")
            )
            wanted = [*wanted, {_RUNBOOKS[number]: ["runbooks/README.md", *runbooks]}]
        nav.append({titles[number]: wanted})
    config.nav = nav
    if config.site_url:
        config.site_url = f"{config.site_url.rstrip('/')}/{PREFIXES[language]}"
    return config
