"""Every page in Chinese says what its English twin says: the same headings, examples, tables and names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_readme import anchors, blocks, code, headings, prose, text_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ENDING = ".zh-CN.md"
# Made for Chinese alone: what is translated to which word.
WITHOUT_A_TWIN = DOCS / f"glossary{ENDING}"
# Generated from one source in both languages: test_reference.py holds it.
GENERATED = DOCS / f"metrics{ENDING}"
TRANSLATED = [
    *sorted(set(DOCS.glob(f"*{ENDING}")) - {WITHOUT_A_TWIN}),
    ROOT / "prometheus" / f"README{ENDING}",
]
# English first, and below it the same in Chinese.
IN_BOTH = sorted((DOCS / "runbooks").glob("*.md"))
PART = "中文"

translated = pytest.mark.parametrize(
    "page", [page for page in TRANSLATED if page != GENERATED], ids=lambda page: page.name
)

_SPAN = re.compile(r"`[^`]+`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NUMBER = re.compile(r"\d[\d,.]*(?<![,.])")
# English has words for these where Chinese has digits: "no", "none", "a", "the last hour".
_WORDS = {"0", "1"}


class Cell(NamedTuple):
    """
    What of a cell is the same in every language.

    Shape: `spans` are its pieces of code: in their order where it is nothing else, otherwise sorted, since
    the order in a sentence is the language's own.
    """

    spans: tuple[str, ...]
    is_list: bool
    is_empty: bool


def english_of(page: Path) -> Path:
    return page.with_name(page.name.removesuffix(ENDING) + ".md")


def rows(page: Path) -> list[list[Cell]]:
    """Give the rows of all tables of a page, their heads and rules included."""
    lines = [line for line in prose(page).splitlines() if line.startswith("|")]
    return [[cell_of(text) for text in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]


def cell_of(text: str) -> Cell:
    spans = _SPAN.findall(text)
    is_list = bool(spans) and not re.sub(r"[\s,、]", "", _SPAN.sub("", text))
    return Cell(tuple(spans if is_list else sorted(spans)), is_list, not text.strip())


def links(page: Path) -> Iterator[str]:
    """Give where the links of a page go, without the places on those pages."""
    for link in _LINK.findall(prose(page)):
        yield link.partition("#")[0] or page.name


def numbers(page: Path) -> Counter[str]:
    """Count the numbers that stand in the text and the tables, outside of code and of links."""
    return Counter(_NUMBER.findall(_LINK.sub("", _SPAN.sub("", prose(page)))))


def twins(page: Path, english: Path) -> list[str]:
    """Give all in which a page and its English twin differ."""
    found = []
    if not english.is_file():
        return [f"there is no {english.name}"]
    for name, one, other in (("English", english, page), ("简体中文", page, english)):
        line = "English | [简体中文]({})" if one == english else "[English]({}) | 简体中文"
        if text_of(one).splitlines()[1:4] != ["", line.format(other.name), ""]:
            found.append(f"the page in {name} does not begin with the two languages")
    if headings(page) != headings(english):
        found.append(f"headings: {headings(page)}, in English {headings(english)}")
    if blocks(page) != blocks(english):
        found.append("the blocks of code differ")
    found += _differing_rows(rows(page), rows(english))
    if names := set(code(page)) ^ set(code(english)):
        found.append(f"named in one language only: {sorted(names)}")
    here, meant = numbers(page), numbers(english)
    if missing := meant - here:
        found.append(f"numbers that are missing: {sorted(missing)}")
    if strange := here.keys() - meant.keys() - _WORDS:
        found.append(f"numbers that are not in English: {sorted(strange)}")
    there = {link.replace(ENDING, ".md").replace("-zh.png", ".png") for link in links(page)} - {english.name}
    if there != set(links(english)) - {page.name, english.name}:
        found.append(f"links: {sorted(there ^ (set(links(english)) - {page.name, english.name}))}")
    return found


def _differing_rows(here: list[list[Cell]], there: list[list[Cell]]) -> list[str]:
    found = [] if len(here) == len(there) else [f"{len(here)} rows in tables, in English {len(there)}"]
    return found + [
        f"row {number}: {one}, in English {other}"
        for number, (one, other) in enumerate(zip(here, there, strict=False), 1)
        if one != other
    ]


def broken(page: Path, text: str) -> list[str]:
    """Give the links of a text on a page that lead nowhere, or to English where there is Chinese."""
    found = []
    for link in _LINK.findall(text):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
        elif target not in (page, english_of(page)) and target.suffix == ".md":
            chinese = target.with_name(target.stem + ENDING)
            if chinese.is_file():
                found.append(f"{link}: there is {chinese.name}")
            elif not anchor and PART in anchors(target):
                found.append(f"{link}: there is #{PART}")
    return found


def test_there_are_pages_in_chinese() -> None:
    assert len(TRANSLATED) >= 5
    assert not english_of(WITHOUT_A_TWIN).exists()


@translated
def test_both_languages_say_the_same(page: Path) -> None:
    assert twins(page, english_of(page)) == []


@pytest.mark.parametrize("page", [ROOT / f"README{ENDING}", *TRANSLATED], ids=lambda page: page.name)
def test_links_lead_to_chinese_where_there_is_any(page: Path) -> None:
    assert broken(page, prose(page)) == []


@pytest.mark.parametrize("page", IN_BOTH, ids=lambda page: page.name)
def test_links_of_the_chinese_part_lead_to_chinese_where_there_is_any(page: Path) -> None:
    _, heading, chinese = prose(page).partition(f"\n## {PART}\n")
    assert heading
    assert broken(page, chinese) == []


# --- the test itself

GOOD = """# Title

English | [简体中文](page.zh-CN.md)

Text of `one`, and [more](other.md). After 30 days it ends.

## Part

```sh
run
```

| key | means |
|---|---|
| `a`, `b` | `c` before `d` |
| 1 | |
"""
CHINESE = """# 标题

[English](page.md) | 简体中文

`one` 的说明和[其余](other.md)。30 天后结束。

## 部分

```sh
run
```

| 键 | 含义 |
|---|---|
| `a`、`b` | 先 `d` 后 `c` |
| 1 | |
"""


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("", "", None),
        ("[English](page.md)", "English", "the page in 简体中文 does not begin"),
        ("## 部分", "### 部分", "headings: "),
        ("## 部分", "部分", "headings: "),
        ("\nrun\n", "\nrun 文件\n", "the blocks of code differ"),
        ("| 1 | |\n", "", "4 rows in tables, in English 4|3 rows in tables, in English 4"),
        ("`a`、`b`", "`b`、`a`", "row 3: "),
        ("`a`、`b`", "`a`", "row 3: "),
        ("先 `d` 后 `c`", "先 `d`", "row 3: "),
        ("| 1 | |", "| 1 | 一 |", "row 4: "),
        ("`one` 的", "`two` 的", r"named in one language only: \['one', 'two'\]"),
        ("`one` 的", "", r"named in one language only: \['one'\]"),
        ("30 天", "三十天", r"numbers that are missing: \['30'\]"),
        ("30 天", "60 天", r"numbers that are not in English: \['60'\]"),
        ("结束", "于 1 点结束", None),
        ("[其余](other.md)", "其余", r"links: \['other.md'\]"),
    ],
)
def test_what_differs_is_found(tmp_path: Path, before: str, after: str, problem: str | None) -> None:
    english, chinese = tmp_path / "page.md", tmp_path / f"page{ENDING}"
    english.write_text(GOOD, encoding="utf-8")
    chinese.write_text(CHINESE.replace(before, after), encoding="utf-8")
    found = "\n".join(twins(chinese, english))
    assert (re.search(problem, found) is not None) if problem else found == ""


def test_a_page_without_a_twin_is_found(tmp_path: Path) -> None:
    page = tmp_path / f"page{ENDING}"
    page.write_text(CHINESE, encoding="utf-8")
    assert twins(page, english_of(page)) == ["there is no page.md"]


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("other.md#中文", None),
        ("other.md", "other.md: there is #中文"),
        ("other.md#nowhere", "other.md#nowhere"),
        ("third.md", "third.md: there is third.zh-CN.md"),
        ("third.zh-CN.md", None),
        ("none.md", "none.md"),
        ("https://example.org/x", None),
    ],
)
def test_a_link_that_leads_elsewhere_is_found(tmp_path: Path, link: str, problem: str | None) -> None:
    for name, text in {"other.md": "# Other\n\n## 中文\n", "third.md": "", f"third{ENDING}": ""}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    page = tmp_path / f"page{ENDING}"
    page.write_text(CHINESE.replace("other.md", link), encoding="utf-8")
    (tmp_path / "page.md").write_text(GOOD, encoding="utf-8")
    assert broken(page, prose(page)) == ([] if problem is None else [problem])
