"""Every state of the status page in a real browser: narrow and wide, light and dark, in both languages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from exporter.errors import LedgerError
from tests.e2e.browser import Browser, Tab, browser, needs_chromium
from tests.e2e.shown_page import OPEN_ALL, PALE, TOO_WIDE, Shown, served
from tests.failed_runs import CALM, SPIKE, SPIKE_IDS, flood
from tests.status_states import DRIFTING, EVERY, FOUND_OUT, OK, UNREADABLE

pytestmark = pytest.mark.e2e

STATES = {
    "calm": Shown(shown=(OK,), hours=CALM.hours, groups=CALM.groups),
    "spike": Shown(shown=(OK,), hours=SPIKE.hours, groups=SPIKE.groups),
    "both": Shown(shown=(*EVERY, UNREADABLE, FOUND_OUT), hours=SPIKE.hours, groups=SPIKE.groups),
    "flood": Shown(shown=(OK, DRIFTING), hours=SPIKE.hours, groups=flood()),
    "unread": Shown(shown=(OK,), error=LedgerError("ledger /data/ledger.db: disk I/O error")),
}
FILTERED = (
    "?project=perception&workspace=0&status=RUN_FAILED&msg_code=3001&id=4070&since=2023-11-14T22:00:00Z"
)
every_state = pytest.mark.parametrize("state", STATES)


@dataclass(frozen=True, slots=True)
class Stage:
    browser: Browser
    urls: dict[str, str]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    needs_chromium()
    folder: Path = tmp_path_factory.mktemp("page-states")
    with ExitStack() as running:
        urls = {name: running.enter_context(served(program)) for name, program in STATES.items()}
        yield Stage(running.enter_context(browser(folder)), urls)


@every_state
@pytest.mark.parametrize("languages", ["en", "zh"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everything_fits_and_stands_out(
    stage: Stage, state: str, languages: str, dark: bool, width: int
) -> None:
    with stage.browser.tab(width=width, dark=dark, languages=languages) as tab:
        for path in ("", FILTERED):
            tab.open(stage.urls[state] + path)
            tab.ask(OPEN_ALL)
            assert tab.ask("document.documentElement.scrollWidth") == width
            assert tab.ask(PALE) == []
            if width == 390:
                assert tab.ask(TOO_WIDE) == []
            assert tab.complaints() == []


@every_state
def test_ids_headings_tables_and_names_can_be_walked(stage: Stage, state: str) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.urls[state])
        levels = tab.ask("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert tab.ask("document.querySelectorAll('th:not([scope])').length") == 0
        assert tab.ask("document.querySelectorAll('.scroll:not([tabindex])').length") == 0
        ids = "[...document.querySelectorAll('[id]')].map((element) => element.id)"
        assert tab.ask(f"new Set({ids}).size === {ids}.length") is True


def test_a_spike_is_not_told_by_its_colour_alone(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.urls["spike"])
        assert tab.text(".summary h2 .state").strip() == "Critical"
        assert tab.ask("document.querySelectorAll('.summary h2 .state svg').length") == 1
        tab.open(stage.urls["calm"])
        assert tab.text(".summary h2").strip() == "OK The target is OK"


def test_the_worse_line_comes_first_and_both_are_there(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.urls["both"])
        assert tab.text(".summary h2").strip().startswith("Critical 2 of 10 targets cannot be polled")
        assert tab.text(".also").strip().startswith("Critical 82 runs failed in the last hour")


def test_ids_are_folded_and_are_copied_one_to_a_line(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        tab.open(stage.urls["spike"])
        assert tab.ask("document.querySelector('.ids').checkVisibility()") is False
        tab.click(".group summary")
        assert tab.ask("document.querySelector('.ids').checkVisibility()") is True
        assert tab.text(".ids").split("\n") == [str(job) for job in SPIKE_IDS]
        tab.ask("getSelection().selectAllChildren(document.querySelector('.ids'))")
        assert tab.ask("getSelection().toString()").split() == [str(job) for job in SPIKE_IDS]


def test_ids_are_links_where_there_is_an_address_for_them(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.urls["spike"])
        link = "document.querySelector('.ids a')"
        assert tab.ask(f"[{link}.href, {link}.target, {link}.rel]") == [
            "https://console.example/0876/0/4070",
            "_blank",
            "noopener noreferrer",
        ]


def test_filters_are_links_that_are_set_and_removed(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        tab.open(stage.urls["spike"])
        tab.click(".group .kind a:nth-of-type(3)")
        tab.wait_for("location.search === '?msg_code=3001' && document.readyState === 'complete'")
        assert STATES["spike"].asked is not None
        assert STATES["spike"].asked.msg_code == "3001"
        tab.click(".filters .filter")
        tab.wait_for("location.pathname + location.search === '/' && document.readyState === 'complete'")
        assert STATES["spike"].asked.msg_code is None


def test_times_are_those_of_the_readers_zone_with_utc_behind_them(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        in_zone(tab, "Asia/Shanghai")
        tab.open(stage.urls["spike"])
        last = "document.querySelector('.group time:last-of-type')"
        assert tab.ask(f"{last}.querySelector('.at').textContent") == "2023-11-15 06:11:21"
        assert tab.ask(f"[{last}.title, {last}.dateTime]") == [
            "2023-11-14 22:11:21 UTC",
            "2023-11-14T22:11:21Z",
        ]
        assert "2023-11-15 06:14:21 UTC+8" in tab.text(".summary")
        tab.ask("document.querySelector('main').dataset.seen = '1'; refresh()")
        tab.wait_for("!document.querySelector('main').dataset.seen")
        assert tab.ask(f"{last}.querySelector('.at').textContent") == "2023-11-15 06:11:21"
        in_zone(tab, "Asia/Kathmandu")
        tab.open(stage.urls["spike"] + "?lang=zh")
        assert "2023-11-15 03:59:21 UTC+5:45" in tab.text(".summary")


def in_zone(tab: Tab, zone: str) -> None:
    tab.command("Emulation.setTimezoneOverride", timezoneId=zone)


def test_without_scripts_times_are_utc(stage: Stage) -> None:
    with stage.browser.tab(scripts=False) as tab:
        in_zone(tab, "Asia/Shanghai")
        tab.open(stage.urls["spike"])
        assert "2023-11-14 22:14:21 UTC" in tab.text(".summary")
        assert "2023-11-14 22:11:21 UTC" in tab.text(".group")


def test_a_flood_is_twenty_groups_and_a_line(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.urls["flood"])
        assert tab.ask("document.querySelectorAll('.group').length") == 20
        assert tab.text(".rest") == "and 9,980 more groups with 9,980 failed runs"
        assert tab.ask("document.querySelector('.rest + p a').getAttribute('href')") == (
            "api/v1/failures?since=1h&limit=10000&format=csv"
        )


def test_a_ledger_that_cannot_be_read_is_a_line_and_the_rest_is_shown(stage: Stage) -> None:
    with stage.browser.tab() as tab:
        tab.open(stage.urls["unread"])
        assert tab.text(".summary h2").strip() == (
            "Warning The target is up to date, but failed runs cannot be read"
        )
        assert "ledger /data/ledger.db: disk I/O error" in tab.text(".notice")
        assert "Jobs by type and status" in tab.text("main")
