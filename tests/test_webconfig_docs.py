"""docs/web-configuration.md names every key there is, and its examples hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.web.toolkit import WebConfiguration
from exporter.web.toolkit.names import CLIENT_AUTH_TYPES, CURVES, UNVERIFIED_TYPES, VERSIONS
from exporter.web.toolkit.settings import SECTIONS, Headers, WebSettings
from tests.certificates import Authority

DOCUMENT = (Path(__file__).parent.parent / "docs" / "web-configuration.md").read_text(encoding="utf-8")
EXAMPLES = [
    example
    for example in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    if any(example.startswith(start) for start in (*WebSettings.keys(), "# web.yml"))
]


@pytest.mark.parametrize("section", [WebSettings, *SECTIONS.values(), Headers])
def test_every_key_is_in_it(section: type[WebSettings]) -> None:
    assert [key for key in section.keys() if key not in DOCUMENT] == []  # noqa: SIM118 - not a mapping


@pytest.mark.parametrize("name", [*CLIENT_AUTH_TYPES, *UNVERIFIED_TYPES, *CURVES, *VERSIONS])
def test_every_name_is_in_it(name: str) -> None:
    assert f"`{name}`" in DOCUMENT


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_examples_hold(tmp_path: Path, example: str) -> None:
    tls = tmp_path / "tls"
    tls.mkdir()
    authority = Authority(tls, "clients-ca")
    authority.issue("server", "localhost")
    (tmp_path / "web.yml").write_text(example.replace("…", "x" * 53), encoding="utf-8")
    WebConfiguration.load(tmp_path / "web.yml")


def test_it_has_examples() -> None:
    assert len(EXAMPLES) == 4
