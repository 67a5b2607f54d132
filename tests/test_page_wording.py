"""The page's words: both languages say the same, and times, spans and sizes read well."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from exporter.errors import REASONS
from exporter.model import FULL_SYNC_REASONS
from exporter.web.status import overview, wording
from exporter.web.status.model import STATES
from exporter.web.status.overview import SEVERITY_ORDER
from exporter.web.status.page_request import FILTERS, choose_language
from exporter.web.status.texts import TEXTS, TRANSLATIONS_ZH
from exporter.web.status.wording import NOT_SHOWN, Language, Wording, amount, excerpt, iso, size, utc

NOW_MS = 1_700_000_061_000
TEMPLATES = Path(wording.__file__).parent / "templates"
SOURCES = [*TEMPLATES.iterdir(), Path(wording.__file__), Path(overview.__file__)]
EN, ZH = Wording("en"), Wording("zh")


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_have_every_text_with_the_same_places(key: str) -> None:
    text = TEXTS[key]
    assert text.en.strip()
    assert text.zh.strip()
    assert places(text.en) == places(text.zh)


def test_the_page_uses_every_text_and_no_other() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    used = set(re.findall(r'\b(?:t|self)\(f?"([a-z_.]+)"', source))
    used |= {f"state.{state}" for state in STATES} | {f"reason.{reason}" for reason in REASONS}
    used |= {f"unit.{unit}" for unit in ("d", "h", "min", "s")}
    used |= {f"ledger.{kind}" for kind in ("sqlite", "memory", "postgresql")}
    used |= {f"severity.{severity}" for severity in SEVERITY_ORDER} | {f"filter.{name}" for name in FILTERS}
    used |= {f"full_sync.{reason}" for reason in FULL_SYNC_REASONS}
    used |= {f"jobs.{group}" for group in ("failed", "in_flight", "ended")}
    used |= {"verdict.polled", "verdict.polled.only"}
    used |= {f"spike.{form}" for form in ("all", "most", "second")}
    used |= {f"means.{state}" for state in STATES if state != "ok"}
    used |= {f"verdict.{state}{only}" for state in STATES if state != "stale" for only in ("", ".only")}
    assert {key for key in used if not key.endswith(".")} == TEXTS.keys()


def test_only_chinese_explains_the_words_of_the_api() -> None:
    assert ZH.translation("RUN_FAILED") == TRANSLATIONS_ZH["RUN_FAILED"] == "运行失败"
    assert (ZH.translation("PONDERING"), EN.translation("RUN_FAILED")) == ("", "")


@pytest.mark.parametrize(
    ("ago_ms", "english", "chinese"),
    [
        (999, "just now", "刚刚"),
        (59_999, "59 s ago", "59 秒前"),
        (60_000, "1 min ago", "1 分钟前"),
        (61_000, "1 min 1 s ago", "1 分钟 1 秒前"),
        (7_205_000, "2 h ago", "2 小时前"),
        (187_200_000, "2 d 4 h ago", "2 天 4 小时前"),
        (-5_000, "in 5 s", "5 秒后"),
    ],
)
def test_a_time_is_told_by_how_long_ago_it_is(ago_ms: int, english: str, chinese: str) -> None:
    assert EN.ago(NOW_MS - ago_ms, NOW_MS) == english
    assert ZH.ago(NOW_MS - ago_ms, NOW_MS) == chinese


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (0.034, "0.03 s"), (9.99, "9.99 s"), (3, "3 s"), (83.4, "1 min 23 s")]
)
def test_a_short_span_keeps_its_fractions(seconds: float, said: str) -> None:
    assert EN.span(seconds) == said


def test_a_clock_that_is_off_makes_no_negative_age() -> None:
    assert EN.age(NOW_MS + 5_000, NOW_MS) == "0 s"


@pytest.mark.parametrize("ms", [-1, 253_402_300_800_000, 999_999_999_999_999])
def test_a_time_outside_the_years_of_calendars_is_not_shown(ms: int) -> None:
    assert (utc(ms), iso(ms)) == (NOT_SHOWN, "")
    assert (EN.ago(ms, NOW_MS), EN.age(ms, NOW_MS)) == (NOT_SHOWN, NOT_SHOWN)


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (12_900_000, "12.3 MiB")]
)
def test_a_size_is_told_in_a_unit_that_leaves_it_short(count: int, said: str) -> None:
    assert size(count) == said


def test_a_long_text_is_cut() -> None:
    assert (excerpt("abcd", 4), excerpt("abcde", 4)) == ("abcd", "abcd…")


def test_control_characters_are_not_on_the_page() -> None:
    assert excerpt("a\x00\x1b[31m\x7f\x9bb\n\tc", 40) == "a\ufffd\ufffd[31m\ufffd\ufffdb\n\tc"


@pytest.mark.parametrize(
    ("wanted", "remembered", "accepted", "language"),
    [
        ("", "", "", "en"),
        ("", "", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "", "en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("", "", "de, zh-Hant;q=0.5, en;q=0.4", "zh"),
        ("", "", "zh;q=0, en;q=0.1", "en"),
        ("", "", "zh;q=0", "en"),
        ("", "", "zh;q=high, *", "en"),
        ("", "zh", "en", "zh"),
        ("en", "zh", "zh", "en"),
        ("ZH-cn", "", "en", "zh"),
        ("fr", "xx", "zh", "zh"),
        ("<script>", "", "", "en"),
    ],
)
def test_the_link_goes_before_the_cookie_and_that_before_the_browser(
    wanted: str, remembered: str, accepted: str, language: Language
) -> None:
    assert choose_language(wanted, remembered, accepted) == language


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (2.0, "2"),
        (2.1, "2.1"),
        (0.001, "0.001"),
        (100, "100"),
        (1608.1, "1,608.1"),
        (1e15, "1,000,000,000,000,000"),
    ],
)
def test_an_amount_has_no_zeros_at_its_end(value: float, written: str) -> None:
    assert amount(value) == written
