"""The status page of names and messages that somebody has made up to spoil it, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.model import CounterValue
from exporter.runs import FailureGroups, HourlyFailures
from tests.e2e.browser import Browser, browser, needs_chromium
from tests.e2e.shown_page import OPEN_ALL, TOO_WIDE, Shown, served
from tests.failed_runs import failure_group
from tests.snapshots import named
from tests.status_states import FAILED, FAULT, FULL, HOUR_MS, NOW_MS, OK

pytestmark = pytest.mark.e2e

WORD = "W" * 300
# What follows it goes from right to left, for as long as nothing stops it.
OVERRIDE = "\u202e"
MESSAGE = f"{OVERRIDE}<script>document.title='owned'</script>\x00\x1b[31m {WORD} https://{WORD}"
LONG_TYPE = OVERRIDE + "NEW_TYPE_" + "Z" * 60
HOSTILE = named(
    "project-" + "n" * 60,
    "w" * 40,
    poll=replace(FAILED, error=replace(FAULT, message=MESSAGE, code="C" * 90, request_id="r" * 90)),
    totals=replace(
        FULL,
        jobs={**FULL.jobs, (LONG_TYPE, "RUNNING"): 10**12},
        failures={("FRAME_EXTRACT", "RUN_FAILED", "C" * 90): CounterValue(10**9)},
        resource_jobs={
            ("1000000Gpu_1000000Core_999999.999GiB", "QUEUING"): 10**12,
            ("1000000Core", "RUNNING"): 10**12,
            (OVERRIDE + "8Gpus" + "S" * 190, "RUNNING"): 10**12,
        },
        unreadable_specs=tuple(f"{OVERRIDE}{number}" + "S" * 190 for number in range(50)),
        oldest_created_ms={
            (f"{OVERRIDE}ABC", "LAUNCHING"): NOW_MS - 9000 * HOUR_MS,
            (LONG_TYPE, "RUNNING"): NOW_MS - 9000 * HOUR_MS,
        },
    ),
)


PROGRAM = Shown(
    shown=(HOSTILE, OK),
    hours=(HourlyFailures(HOSTILE.target.key, 10**9, None, {(LONG_TYPE, "C" * 90): 10**9}),),
    groups=FailureGroups(
        (
            failure_group(
                target=HOSTILE.target.key,
                job_type=LONG_TYPE,
                msg_code="C" * 90,
                message=MESSAGE,
                job_ids=tuple(range(2**62, 2**62 - 400, -1)),
            ),
            failure_group(status=f"{LONG_TYPE}_FAILED", msg_code="", message=MESSAGE, job_ids=(1,)),
        ),
        10**9,
        10**6,
    ),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    needs_chromium()
    folder: Path = tmp_path_factory.mktemp("hostile-page")
    with served(PROGRAM) as url, browser(folder) as running:
        yield running, url


FIRST_BOX = "const range = new Range(); range.selectNode(node); return range.getClientRects()[0].left"


@pytest.mark.parametrize("languages", ["en", "zh"])
def test_nothing_is_cut_off_on_a_phone(page: tuple[Browser, str], languages: str) -> None:
    running, url = page
    with running.tab(width=390, languages=languages) as tab:
        tab.open(url)
        tab.ask(OPEN_ALL)
        assert tab.ask(TOO_WIDE) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_shown_and_not_run(page: tuple[Browser, str], width: int) -> None:
    running, url = page
    with running.tab(width=width) as tab:
        tab.open(url)
        tab.ask(OPEN_ALL)
        assert tab.ask("document.documentElement.scrollWidth") == width
        assert "<script>document.title='owned'</script>" in tab.text(".groups")
        assert tab.ask("document.title") == "1 of 2 targets cannot be polled · octopus-exporter"
        assert tab.complaints() == []


def test_a_type_that_turns_the_direction_turns_only_itself(page: tuple[Browser, str]) -> None:
    running, url = page
    with running.tab() as tab:
        tab.open(url)
        line = "document.querySelector('#in-flight-all tr:nth-child(2) .of-what')"
        assert tab.ask(f"{line}.textContent").startswith(f"{OVERRIDE}ABC · project-n")
        tab.ask(f"var left = (node) => {{ {FIRST_BOX} }}")
        # At once: the page puts another line in its place when it refreshes itself.
        assert tab.ask(f"left({line}.firstChild) < left({line}.querySelector('a bdi'))") is True
