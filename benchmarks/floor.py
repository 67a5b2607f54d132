"""
The floor: the least that reading the list can cost in Python with these libraries.

A plain aiohttp client requests the same pages as the exporter's first sync, as many at a time, and decodes
them into the exporter's rows. It does not pace, retry, check, store or count anything.

Usage: python -m benchmarks.floor URL [--concurrency N] [--stay]. Prints one line of JSON: rows and seconds.
With --stay it then waits for the end of its standard input, so that another process can read its cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator

import aiohttp

from exporter.octopus.messages import Request, Response
from exporter.octopus.wire import Page, decode_page
from exporter.sync.pagination import overlap

PAGE_SIZE = 200
_PATH = "/v1.0/floor/data/system-jobs"


class Floor:
    """Reads all pages once. `rows` is the number of decoded rows, with those of overlaps."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self._session = session
        self._origin = origin
        self._asked = Request("GET", origin, _PATH)
        self.rows = 0

    async def read(self, concurrency: int) -> None:
        first = await self._page(0)
        offsets = _offsets(len(first.jobs), first.total or 0)
        await asyncio.gather(*(self._follow(offsets) for _ in range(concurrency)))

    async def _follow(self, offsets: Iterator[int]) -> None:
        for offset in offsets:
            await self._page(offset)

    async def _page(self, offset: int) -> Page:
        url = f"{self._origin}{_PATH}?limit={PAGE_SIZE}&offset={offset}&workspace_id=0"
        async with self._session.get(url) as answer:
            page = decode_page(Response(answer.status, {}, await answer.read()), self._asked)
        self.rows += len(page.jobs)
        return page


def _offsets(rows: int, total: int) -> Iterator[int]:
    """Return the offsets of the exporter's pages after the first."""
    step = rows - overlap(rows)
    return iter(range(step, total - overlap(rows), step)) if rows < total else iter(())


async def _run(origin: str, concurrency: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        floor = Floor(session, origin)
        await floor.read(concurrency)
        print(json.dumps({"rows": floor.rows, "seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--stay", action="store_true")
    chosen = parser.parse_args()
    asyncio.run(_run(chosen.url, chosen.concurrency))
    if chosen.stay:
        sys.stdin.read()
