"""docs/web-configuration.md and its Chinese twin name every key there is, and their examples hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.web.toolkit import WebConfiguration
from exporter.web.toolkit.names import CLIENT_AUTH_TYPES, CURVES, UNVERIFIED_TYPES, VERSIONS
from exporter.web.toolkit.settings import SECTIONS, HeaderSettings, ToolkitSettings
from tests.certificates import Authority

DOCS = Path(__file__).parent.parent / "docs"
ENGLISH, CHINESE = (
    (DOCS / name).read_text(encoding="utf-8")
    for name in ("web-configuration.md", "web-configuration.zh-CN.md")
)


def examples(document: str) -> list[str]:
    """Give the examples of the file itself, not those of what reads the metrics."""
    return [
        example
        for example in re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
        if any(example.startswith(start) for start in (*ToolkitSettings.keys(), "# web.yml"))
    ]


documents = pytest.mark.parametrize("document", [ENGLISH, CHINESE], ids=["en", "zh"])


@documents
@pytest.mark.parametrize("section", [ToolkitSettings, *SECTIONS.values(), HeaderSettings])
def test_every_key_is_in_it(document: str, section: type[ToolkitSettings]) -> None:
    assert [key for key in section.keys() if key not in document] == []  # noqa: SIM118 - not a mapping


@documents
@pytest.mark.parametrize("name", [*CLIENT_AUTH_TYPES, *UNVERIFIED_TYPES, *CURVES, *VERSIONS])
def test_every_name_is_in_it(document: str, name: str) -> None:
    assert f"`{name}`" in document


@pytest.mark.parametrize("example", examples(ENGLISH))
def test_its_examples_hold(tmp_path: Path, example: str) -> None:
    tls = tmp_path / "tls"
    tls.mkdir()
    authority = Authority(tls, "clients-ca")
    authority.issue("server", "localhost")
    (tmp_path / "web.yml").write_text(example.replace("…", "x" * 53), encoding="utf-8")
    WebConfiguration(tmp_path / "web.yml")


def test_both_have_the_same_examples() -> None:
    assert len(examples(ENGLISH)) == 4
    assert examples(CHINESE) == examples(ENGLISH)
