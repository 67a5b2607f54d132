"""The reference of all metrics in both languages, and the catalogue of its Chinese texts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.exposition import reference as module
from exporter.exposition.families import FAMILIES, JOBS, UP, Family
from exporter.exposition.reference import Catalogue, Language, faults, read_catalogue, reference

DOCS = Path(__file__).parent.parent / "docs"
PAGES: dict[Language, Path] = {"en": DOCS / "metrics.md", "zh-CN": DOCS / "metrics.zh-CN.md"}

# Names of metrics, labels and settings, and numbers: the same in both languages.
KEPT = re.compile(r"[a-z]\w*_\w+|poll\.\w+|\d+(?:,\d+)*", re.ASCII)
CHINESE = r"[\u4e00-\u9fff]"
WIDE = r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"  # with the punctuation
CLOSE_TO_LATIN = re.compile(rf"{CHINESE}[\w`%]|[\w`%]{CHINESE}", re.ASCII)
ENGLISH_PUNCTUATION = re.compile(rf"{CHINESE} ?[,.;:!?()]")
SPACE_BETWEEN = re.compile(rf"{WIDE} +{WIDE}")


def pairs() -> Iterator[tuple[str, str]]:
    """Give every English text of the catalogue with its Chinese one."""
    for texts in read_catalogue().values():
        yield from texts.items()


def new_faults(catalogue: Catalogue) -> list[str]:
    """Give the faults that the catalogue in use does not have."""
    old = faults(read_catalogue())
    return [fault for fault in faults(catalogue) if fault not in old]


def blocks(page: str) -> list[str]:
    """Give the blocks of code of a page, without their comments."""
    found = re.findall(r"^```promql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^#.*\n", "", block, flags=re.MULTILINE) for block in found]


@pytest.mark.parametrize("language", PAGES)
def test_the_page_is_up_to_date(language: Language) -> None:
    """If not: python -m exporter.exposition.reference [--language zh-CN] > docs/metrics[.zh-CN].md"""
    assert PAGES[language].read_text(encoding="utf-8") == reference(language)


@pytest.mark.parametrize("language", PAGES)
def test_the_command_writes_the_page_in_utf_8_whatever_the_encoding_of_the_terminal(
    language: Language,
) -> None:
    command = [sys.executable, "-m", module.__name__, "--language", language]
    done = subprocess.run(
        command, capture_output=True, check=True, cwd=DOCS.parent, env={"PYTHONIOENCODING": "ascii"}
    )
    assert done.stdout == reference(language).encode()


def test_no_chinese_text_is_missing_or_left_over() -> None:
    assert faults(read_catalogue()) == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_without_its_entry_is_named_with_each_of_its_texts(family: Family) -> None:
    catalogue = read_catalogue() | {"shared": {}}
    del catalogue[family.name]
    texts = (family.what, family.when, *family.queries)
    expected = [f"{family.name}: no Chinese text for {text!r}" for text in texts]
    assert [fault for fault in faults(catalogue) if fault.startswith(f"{family.name}:")] == expected


def test_an_english_text_that_changed_is_missing_and_left_over() -> None:
    catalogue = read_catalogue()
    catalogue[UP.name] = {
        "It was worded so before." if key == UP.what else key: "…" for key in catalogue[UP.name]
    }
    assert new_faults(catalogue) == [
        f"octopus_up: no Chinese text for {UP.what!r}",
        "octopus_up: no longer used: 'It was worded so before.'",
    ]


def test_a_family_that_is_gone_and_a_shared_text_that_nobody_uses_are_left_over() -> None:
    catalogue = read_catalogue()
    catalogue["octopus_gone"] = {"Jobs that are gone.": "…"}
    catalogue["shared"]["Set now and then."] = "…"
    assert new_faults(catalogue) == [
        "shared: no longer used: 'Set now and then.'",
        "octopus_gone: no longer used: 'Jobs that are gone.'",
    ]


def test_an_empty_chinese_text_is_missing() -> None:
    catalogue = read_catalogue()
    catalogue[JOBS.name][JOBS.what] = ""
    assert new_faults(catalogue) == [f"octopus_jobs: no Chinese text for {JOBS.what!r}"]


def test_no_page_is_made_of_a_catalogue_with_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "reference.zh-CN.yaml"
    file.write_text(
        module.CATALOGUE.read_text(encoding="utf-8") + "octopus_gone: {Gone.: 没有了。}\n", "utf-8"
    )
    monkeypatch.setattr(module, "CATALOGUE", file)
    with pytest.raises(ValueError, match=r"octopus_gone: no longer used: 'Gone\.'$"):
        reference("zh-CN")


def test_both_pages_have_the_same_queries_and_headings() -> None:
    english, chinese = (page.read_text(encoding="utf-8") for page in PAGES.values())
    assert blocks(chinese) == blocks(english)
    assert re.findall(r"^(?:###? `.*|##) ?", chinese, re.MULTILINE) == re.findall(
        r"^(?:###? `.*|##) ?", english, re.MULTILINE
    )


def test_a_chinese_text_keeps_the_names_and_numbers_of_the_english_one() -> None:
    lost = {english: set(KEPT.findall(english)) - set(KEPT.findall(chinese)) for english, chinese in pairs()}
    assert {english: names for english, names in lost.items() if names} == {}


def test_chinese_texts_are_one_line_with_a_space_before_and_after_latin_letters() -> None:
    for _, chinese in pairs():
        assert "\n" not in chinese
        assert CLOSE_TO_LATIN.findall(chinese) == [], chinese
        assert ENGLISH_PUNCTUATION.findall(chinese) == [], chinese
        assert SPACE_BETWEEN.findall(chinese) == [], chinese
