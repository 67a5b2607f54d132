"""The Chinese texts: one word for one thing, and no space where a line was broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.web.status.texts import TEXTS, TRANSLATIONS_ZH

ROOT = Path(__file__).parent.parent
GLOSSARY = ROOT / "docs" / "glossary.zh-CN.md"
# Pages that are Chinese, or Chinese in their second half.
PAGES = (
    ROOT / "README.zh-CN.md",
    *sorted(ROOT.glob("docs/**/*.zh-CN.md")),
    *sorted(ROOT.glob("docs/runbooks/*.md")),
    ROOT / "prometheus" / "README.zh-CN.md",
)
DATA = (*sorted(ROOT.glob("grafana/catalogue/*.yaml")), *sorted(ROOT.glob("prometheus/rules/*.yml")))
SOURCES = (
    ROOT / "exporter" / "web" / "status" / "texts.py",
    *sorted(ROOT.glob("prometheus/templates/*.yml")),
    *sorted(ROOT.glob("prometheus/*.tmpl")),
)
FILES = tuple(file for file in (*PAGES, *DATA, *SOURCES) if file != GLOSSARY)

CHINESE = r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
# What begins a line that is not the one before it carried on.
BEGINS = re.compile(r"\s*$|\s*([-*#|>]|\d+\.|```)")


def each(some: tuple[Path, ...]) -> list[Any]:
    """Give files as parameters, named by their paths."""
    return [pytest.param(file, id=file.relative_to(ROOT).as_posix()) for file in some]


files = pytest.mark.parametrize("file", each(FILES))


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def rows() -> list[tuple[str, str, tuple[str, ...]]]:
    """Give the glossary: the English term, the Chinese one, and the words not to use for it."""
    lines = [line for line in text_of(GLOSSARY).splitlines() if line.startswith("|")]
    stripped = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]
    return [
        (english, chinese, tuple(filter(None, re.split("、", avoided))))
        for english, chinese, _, avoided in stripped
    ]


def prose(file: Path) -> str:
    """Give a page without its blocks of code, each left as an empty line."""
    return re.sub(r"^ *```.*?^ *```$", "", text_of(file), flags=re.MULTILINE | re.DOTALL)


def carried_on(text: str) -> Iterator[tuple[str, str]]:
    """Give each line of a page that is carried on in the next one, and that one."""
    for line, following in pairwise(text.splitlines()):
        if line.strip() and not line.startswith(("#", "|")) and not BEGINS.match(following):
            yield line, following.lstrip()


def texts(value: object) -> Iterator[str]:
    """Give every text in a YAML document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def spaced(text: str) -> list[str]:
    """Give the places where a space stands between two Chinese characters."""
    return re.findall(rf".{{0,8}}{CHINESE} +{CHINESE}.{{0,8}}", text)


def test_the_glossary_has_the_terms_that_the_texts_disagreed_on() -> None:
    avoided = {word: chinese for _, chinese, words in rows() for word in words}
    assert avoided["导出器"] == "exporter"
    assert avoided["令牌"] == "token"
    assert (avoided["审计"], avoided["看板"], avoided["在途"], avoided["呼叫"]) == (
        "对账",
        "仪表盘",
        "未结束",
        "告警",
    )


def test_no_term_is_another_ones_word_to_avoid() -> None:
    terms = {chinese for _, chinese, _ in rows()}
    assert len(terms) == len(rows())
    assert not [word for _, _, words in rows() for word in words if any(word in term for term in terms)]


@files
def test_only_the_words_of_the_glossary_are_used(file: Path) -> None:
    avoided = [(word, chinese) for _, chinese, words in rows() for word in words]
    wrong = [
        f"line {number}: {word}, expected {chinese}"
        for number, line in enumerate(text_of(file).splitlines(), 1)
        for word, chinese in avoided
        if word in line
    ]
    assert wrong == []


def test_every_term_is_used() -> None:
    everything = "".join(text_of(file) for file in FILES)
    assert [chinese for _, chinese, _ in rows() if chinese not in everything] == []


@pytest.mark.parametrize("page", each(PAGES))
def test_a_chinese_paragraph_is_one_line(page: Path) -> None:
    """Markdown shows the end of a line as a space, which Chinese does not have between characters."""
    broken = [
        f"{line[-12:]}⏎{following[:12]}"
        for line, following in carried_on(prose(page))
        if re.search(CHINESE, line[-1] + following[0])
    ]
    assert broken == []


@files
def test_no_space_stands_between_two_chinese_characters(file: Path) -> None:
    if file in DATA:
        # Folded texts too, which YAML joins with a space.
        found = [place for text in texts(yaml.safe_load(text_of(file))) for place in spaced(text)]
    elif file.name == "texts.py":
        said = [*(text.zh for text in TEXTS.values()), *TRANSLATIONS_ZH.values()]
        found = [place for text in said for place in spaced(text)]
    else:
        found = spaced(prose(file))
    assert found == []
