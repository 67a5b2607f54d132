"""The status page of names and messages that somebody has made up to spoil it, in a real browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from exporter.config import ListenAddress
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.model import CounterValue, Progress, TargetKey, TargetSnapshot
from exporter.web.app import create_app
from exporter.web.server import serve
from exporter.web.status import About
from tests.e2e.browser import Browser, browser, needs_chromium
from tests.fake_runs import FakeRuns, a_run
from tests.snapshots import named
from tests.status_states import ABOUT, FAILED, FAILED_RUNS, FAULT, FULL, HOUR_MS, NOW_MS, OK

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
        oldest_created_ms={
            (f"{OVERRIDE}ABC", "LAUNCHING"): NOW_MS - 9000 * HOUR_MS,
            (LONG_TYPE, "RUNNING"): NOW_MS - 9000 * HOUR_MS,
        },
    ),
)


HOSTILE_RUNS = (
    a_run(2**62, job_type=LONG_TYPE, msg_code="C" * 90, msg_error=MESSAGE, at_ms=NOW_MS),
    a_run(1, status=f"{LONG_TYPE}_FAILED", msg_code="", msg_error=MESSAGE, at_ms=NOW_MS),
)


class Shown(FakeRuns):
    """A program that has nothing but these to show."""

    def __init__(self) -> None:
        super().__init__({HOSTILE.target.key: HOSTILE_RUNS, OK.target.key: FAILED_RUNS})

    lifecycle_enabled = False

    async def reload(self) -> None: ...

    async def about(self) -> About:
        return ABOUT

    def snapshots(self) -> tuple[TargetSnapshot, ...]:
        return (HOSTILE, OK)

    def progress(self) -> dict[TargetKey, Progress]:
        return {}

    def ready(self) -> list[str]:
        return []


@contextmanager
def shown() -> Iterator[str]:
    """Serve its page from a thread; give the address."""
    port, loop = Future[int](), asyncio.new_event_loop()

    async def serve_until_stopped() -> None:
        publisher = Publisher(Instruments(CollectorRegistry(), "1.2.3"))
        app = create_app(Shown(), publisher, clock=lambda: NOW_MS / 1000)
        server = await serve(app, [ListenAddress("127.0.0.1", 0)])
        port.set_result(server.ports[0])
        await stop.wait()
        await server.close()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve_until_stopped(),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port.result(10)}/"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    needs_chromium()
    folder: Path = tmp_path_factory.mktemp("hostile-page")
    with shown() as url, browser(folder) as running:
        yield running, url


FIRST_BOX = "const range = new Range(); range.selectNode(node); return range.getClientRects()[0].left"
OPEN_ALL = "document.querySelectorAll('details').forEach((details) => { details.open = true })"
# What sticks out of the window, or of the card it is in; tables of numbers scroll by themselves.
CUT_OFF = """
[...document.querySelectorAll('main :not(thead *)')].filter((element) => {
  const cards = element.closest('.scroll:has(.cards)');
  if (element.closest('.scroll') !== cards) return false;
  const { right, width } = element.getBoundingClientRect();
  return width && right > Math.ceil(cards?.getBoundingClientRect().right ?? innerWidth);
}).map((element) => `${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`)
"""


@pytest.mark.parametrize("languages", ["en", "zh"])
def test_nothing_is_cut_off_on_a_phone(page: tuple[Browser, str], languages: str) -> None:
    running, url = page
    with running.tab(width=390, languages=languages) as tab:
        tab.open(url)
        tab.ask(OPEN_ALL)
        assert tab.ask(CUT_OFF) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_shown_and_not_run(page: tuple[Browser, str], width: int) -> None:
    running, url = page
    with running.tab(width=width) as tab:
        tab.open(url)
        tab.ask(OPEN_ALL)
        assert tab.ask("document.documentElement.scrollWidth") == width
        assert "<script>document.title='owned'</script>" in tab.text("#failures-all")
        assert tab.ask("document.title") == "1 of 2 targets cannot be polled · octopus-exporter"
        assert tab.complaints() == []


def test_a_long_type_leaves_the_numbers_beside_it_in_sight(page: tuple[Browser, str]) -> None:
    running, url = page
    with running.tab(width=390) as tab:
        tab.open(url)
        first = "document.querySelector('#jobs-all tbody th').getBoundingClientRect().width"
        assert tab.ask(first) < 390 / 2


def test_a_type_that_turns_the_direction_turns_only_itself(page: tuple[Browser, str]) -> None:
    running, url = page
    with running.tab() as tab:
        tab.open(url)
        tab.ask("var line = document.querySelector('#in-flight-all tr:nth-child(2) .of-what')")
        assert tab.ask("line.textContent").startswith(f"{OVERRIDE}ABC · project-n")
        tab.ask("var [type, target] = [line.firstChild, line.querySelector('a bdi')]")
        tab.ask(f"var left = (node) => {{ {FIRST_BOX} }}")
        assert tab.ask("left(type) < left(target)") is True
