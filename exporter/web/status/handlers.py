"""Serves the status page and the status as JSON, from what was published last."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import msgspec
from aiohttp import web

from exporter import __version__
from exporter.errors import LedgerError
from exporter.model import Progress, Run, TargetKey, TargetSnapshot
from exporter.runs import RunFilter, RunReader, RunSource
from exporter.web.negotiation import accepts_gzip, header
from exporter.web.run_record import Masked
from exporter.web.status.failures import READ_GROUPS, READ_IDS_OF_A_GROUP, PageFailures, find_spike
from exporter.web.status.model import ProcessInfo, Status, status
from exporter.web.status.page_request import PageRequest, read_page_request

if TYPE_CHECKING:
    from exporter.web.status.page import StatusPage

_COOKIE = "octopus_lang"
_YEAR_SECONDS = 365 * 86_400
_GZIP_LEVEL = 5
# Of each target. Reading them takes milliseconds.
RECENT_FAILURES = 50
# A page waits no longer than this for the ledger, its turn included.
_READING_SECONDS = 10.0


class StatusSource(RunSource, Protocol):
    """The program whose status is shown. No method may block."""

    def snapshots(self) -> Iterable[TargetSnapshot]:
        """Return every configured target, published or not."""

    def progress(self) -> Mapping[TargetKey, Progress]:
        """Return the progress of the full syncs that are running."""

    def ready(self) -> list[str]:
        """Return why the exporter is not ready, a line each; nothing when it is ready."""

    async def process_info(self) -> ProcessInfo:
        """Return the state of the process."""


class StatusPages:
    """`/` and `/api/v1/status`. Units: `clock` gives Unix seconds."""

    def __init__(self, source: StatusSource, masked: Masked, clock: Callable[[], float]) -> None:
        self._source = source
        self._masked = masked
        self._clock = clock
        self._rendering = asyncio.Lock()
        self._reading = asyncio.Lock()

    @cached_property
    def _page(self) -> StatusPage:
        """The page with its template, compiled at the first request: few exporters are looked at."""
        from exporter.web.status.page import StatusPage  # noqa: PLC0415 - at its first use

        return StatusPage()

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/", self.page), web.get("/api/v1/status", self.api_status)]

    async def page(self, request: web.Request) -> web.Response:
        now_ms, cookie = int(self._clock() * 1000), request.cookies.get(_COOKIE, "")
        try:
            asked = read_page_request(request.query, cookie, header(request, "Accept-Language"), now_ms)
        except ValueError as error:
            return web.Response(text=f"{error}\n", status=400)
        process, snapshots = await self._source.process_info(), tuple(self._source.snapshots())
        targets = [shown.target.key for shown in snapshots if asked.run_filter.fits_target(shown.target.key)]
        if not targets and asked.filters.keys() & {"project", "workspace"}:
            return web.Response(text="no such target; all are listed at /\n", status=404)
        failures = await self._failures(asked, targets, now_ms)
        make_status = self._status_maker(process, snapshots, now_ms)
        # In a thread, as everything below that grows with the number of targets: it would block the event
        # loop longer than a scrape may wait. One page at a time, so that many viewers do not slow scrapes.
        async with self._rendering:
            html = await asyncio.to_thread(
                lambda: self._page.render(
                    make_status(), asked, failures.masked(self._masked), process.job_url
                )
            )
        response = await _compressed(request, html.encode("utf-8", "replace"), "text/html; charset=utf-8")
        response.headers["Content-Language"] = asked.language
        if asked.sets_language:
            response.set_cookie(_COOKIE, asked.language, max_age=_YEAR_SECONDS, httponly=True, samesite="Lax")
        return response

    async def api_status(self, request: web.Request) -> web.Response:
        now_ms = int(self._clock() * 1000)
        process, snapshots = await self._source.process_info(), tuple(self._source.snapshots())
        runs: Mapping[TargetKey, Sequence[Run]] = {}
        error = None
        try:
            async with self._reader() as reader:
                runs = await reader.recent_failures([one.target.key for one in snapshots], RECENT_FAILURES)
        except LedgerError as exc:
            error = self._masked(str(exc))
        except TimeoutError:
            error = f"the ledger could not be read within {_READING_SECONDS:g} s"
        make_status = self._status_maker(process, snapshots, now_ms, runs, error)
        json = await asyncio.to_thread(lambda: msgspec.json.encode(make_status()))
        return await _compressed(request, json, "application/json")

    def _status_maker(
        self,
        process: ProcessInfo,
        snapshots: Sequence[TargetSnapshot],
        now_ms: int,
        recent_failures: Mapping[TargetKey, Sequence[Run]] | None = None,
        recent_failures_error: str | None = None,
    ) -> Callable[[], Status]:
        """Read the program's state now; the returned function makes a Status of it, in any thread."""
        return partial(
            status,
            snapshots,
            process,
            version=__version__,
            now_ms=now_ms,
            missing=self._source.ready(),
            progress=self._source.progress(),
            recent_failures=recent_failures,
            recent_failures_error=recent_failures_error,
            masked=self._masked,
        )

    async def _failures(self, asked: PageRequest, targets: Sequence[TargetKey], now_ms: int) -> PageFailures:
        """Read the failed runs of the page. The rest of the page is shown even if this fails."""
        try:
            async with self._reader() as reader:
                hours = await reader.last_hour(targets, asked.run_filter, now_ms)
                spike = find_spike(hours)
                if spike is None and asked.selects_runs:
                    # A filter must not hide a spike of other runs.
                    hours = await reader.last_hour(targets, RunFilter(), now_ms)
                    spike = find_spike(hours)
                groups = await reader.failure_groups(
                    targets, asked.run_filter, READ_GROUPS, READ_IDS_OF_A_GROUP
                )
                return PageFailures(hours, spike, groups)
        except LedgerError as exc:
            return PageFailures(problem="unread", error=str(exc))
        except TimeoutError:
            return PageFailures(problem="busy")

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[RunReader]:
        """Read the ledger, for one page at a time, to spare the polls. Raises: LedgerError; TimeoutError."""
        async with asyncio.timeout(_READING_SECONDS), self._reading, self._source.reading() as reader:
            yield reader


async def _compressed(request: web.Request, body: bytes, content_type: str) -> web.Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Type": content_type,
        "Vary": "Accept-Encoding, Accept-Language, Cookie",
    }
    if accepts_gzip(header(request, "Accept-Encoding")):
        body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)
