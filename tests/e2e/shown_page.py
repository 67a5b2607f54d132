"""The status page of made-up snapshots and failed runs, served to a real browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace

from prometheus_client import CollectorRegistry

from exporter.config import JobUrl, ListenAddress
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.web.app import create_app
from exporter.web.server import Server, bind_all
from exporter.web.status.model import ProcessInfo
from tests.e2e.waiting import PATIENCE_SECONDS
from tests.fake_runs import FakeRuns
from tests.status_states import ABOUT, NOW_MS, READING

JOB_URL = JobUrl.parse("https://console.example/{project_id}/{workspace}/{job_id}")

# What is wider than the window or than the box it is in: on a phone nothing but code scrolls sideways.
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter((element) => {
  if (element.closest('pre, .row small, thead')) return false;
  const { left, right, width } = element.getBoundingClientRect();
  const scrolls = element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).overflowX !== 'visible' && element.clientWidth > 1;
  return width > 1 && left >= 0 && (scrolls || right > innerWidth + 1);
}).map((element) => `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`)
"""
OPEN_ALL = "document.querySelectorAll('details').forEach((details) => { details.open = true })"
# The contrast of every text with what is behind it, for those below what WCAG 2.2 asks (AA).
PALE = """
(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parse(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return (parse(color)[3] ?? 1) > 0 ? color : behind(element.parentElement);
  };
  const pale = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!says || !element.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) pale.add(`${element.className} ${element.textContent.trim()}`);
  }
  return [...pale];
})()
"""


@dataclass
class Shown(FakeRuns):
    """A program that has nothing but these to show; `runs`, `hours` and `groups` are its failed runs."""

    shown: Sequence[TargetSnapshot] = ()
    job_url: JobUrl | None = JOB_URL
    lifecycle_enabled = False

    async def reload(self) -> None: ...

    async def process_info(self) -> ProcessInfo:
        return replace(ABOUT, job_url=self.job_url)

    def snapshots(self) -> Sequence[TargetSnapshot]:
        return self.shown

    def progress(self) -> dict[TargetKey, Progress]:
        return dict(READING)

    def ready(self) -> list[str]:
        return []


@contextmanager
def served(program: Shown) -> Iterator[str]:
    """Serve its page from a thread; give the address."""
    port, loop = Future[int](), asyncio.new_event_loop()

    async def serve_until_stopped() -> None:
        publisher = Publisher(Instruments(CollectorRegistry(), "1.2.3"))
        app = create_app(program, publisher, clock=lambda: NOW_MS / 1000)
        server = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]))
        await server.start()
        port.set_result(server.ports[0])
        await stop.wait()
        await server.close()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve_until_stopped(),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port.result(PATIENCE_SECONDS)}/"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
