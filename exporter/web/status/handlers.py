"""Serves the status page and the status as JSON, each from what was published last."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
from aiohttp import web

from exporter import __version__
from exporter.errors import LedgerError
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.runs import RunFilter, RunReader, RunSource
from exporter.web.negotiation import accepts_gzip
from exporter.web.status.failures import READ_GROUPS, READ_IDS_OF_A_GROUP, spike
from exporter.web.status.model import ProcessInfo, RecentFailures, Status, status
from exporter.web.status.page import StatusPage
from exporter.web.status.page_request import PageRequest, read_question
from exporter.web.status.run_queries import FailuresRead

_COOKIE = "octopus_lang"
_YEAR_SECONDS = 365 * 86_400
_GZIP_LEVEL = 5
_FRESH = {"Cache-Control": "no-store"}
# Of each target. To read them takes milliseconds; a page does not wait longer than this for its turn.
RECENT_FAILURES = 50
_READING_SECONDS = 10.0


class StatusSource(RunSource, Protocol):
    """What the status pages ask of the program that serves them; nothing of it may block."""

    def snapshots(self) -> Iterable[TargetSnapshot]:
        """Every configured target, published or not."""

    def progress(self) -> Mapping[TargetKey, Progress]:
        """How far the targets are whose every job is being listed."""

    def ready(self) -> list[str]:
        """What is still missing, a line each; nothing when ready."""

    async def about(self) -> ProcessInfo:
        """What there is to tell of the program itself."""


class StatusPages:
    """
    `/` and `/api/v1/status`.

    Shape: `masked` takes the secrets out of a text. Units: `clock` gives Unix seconds.
    """

    def __init__(
        self, source: StatusSource, masked: Callable[[str], str], clock: Callable[[], float]
    ) -> None:
        self._source = source
        self._masked = masked
        self._clock = clock
        self._page = StatusPage()
        self._rendering = asyncio.Lock()
        self._reading = asyncio.Lock()

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/", self.page), web.get("/api/v1/status", self.api_status)]

    async def page(self, request: web.Request) -> web.Response:
        now_ms = self._now_ms()
        try:
            question = read_question(request.query, _remembered(request), _accepted(request), now_ms)
        except ValueError as error:
            return web.Response(text=f"{error}\n", status=400)
        about, snapshots = await self._source.about(), tuple(self._source.snapshots())
        failures = await self._failures(question, snapshots, now_ms)
        layout = self._layout(about, snapshots, RecentFailures(), now_ms)
        # In threads, here and below: with hundreds of targets it takes longer than a scrape should wait.
        # One page at a time, however many look: the scrapes are to get through.
        async with self._rendering:
            html = await asyncio.to_thread(
                lambda: self._page.render(layout(), question, failures.masked(self._masked), about.job_url)
            )
        if html is None:
            return web.Response(text="no such target; all are listed at /\n", status=404)
        response = await _compressed(request, html.encode("utf-8", "replace"), "text/html; charset=utf-8")
        response.headers["Content-Language"] = question.language
        if question.says_language:
            response.set_cookie(
                _COOKIE, question.language, max_age=_YEAR_SECONDS, httponly=True, samesite="Lax"
            )
        return response

    async def api_status(self, request: web.Request) -> web.Response:
        now_ms = self._now_ms()
        about, snapshots = await self._source.about(), tuple(self._source.snapshots())
        recent = await self._recent_failures(snapshots)
        layout = self._layout(about, snapshots, recent, now_ms)
        json = await asyncio.to_thread(lambda: msgspec.json.encode(layout()))
        return await _compressed(request, json, "application/json")

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _layout(
        self, about: ProcessInfo, snapshots: Sequence[TargetSnapshot], recent: RecentFailures, now_ms: int
    ) -> Callable[[], Status]:
        """Take what there is to show, now; the laying out is left to another thread."""
        missing, progress = self._source.ready(), self._source.progress()
        return lambda: status(
            snapshots,
            about,
            recent,
            version=__version__,
            now_ms=now_ms,
            missing=missing,
            progress=progress,
            masked=self._masked,
        )

    async def _recent_failures(self, snapshots: Sequence[TargetSnapshot]) -> RecentFailures:
        """Read them for this answer; the rest of it is shown whatever comes of that."""
        targets = [shown.target.key for shown in snapshots]
        try:
            async with self._reader() as reader:
                return RecentFailures(await reader.recent_failures(targets, RECENT_FAILURES))
        except LedgerError as exc:
            return RecentFailures(error=self._masked(str(exc)))
        except TimeoutError:
            return RecentFailures(error=f"the ledger could not be read within {_READING_SECONDS:g} s")

    async def _failures(
        self, question: PageRequest, snapshots: Sequence[TargetSnapshot], now_ms: int
    ) -> FailuresRead:
        """Read what the page shows of failed runs; the rest of it is shown whatever comes of that."""
        targets = [shown.target.key for shown in snapshots]
        try:
            async with self._reader() as reader:
                hours = await reader.last_hour(targets, question.which, now_ms)
                looked_at = [hour for hour in hours if question.which.fits_target(hour.target)]
                if question.chooses_runs and spike(looked_at) is None:
                    # A filter must not hide that something else is wrong.
                    hours = await reader.last_hour(targets, RunFilter(), now_ms)
                return FailuresRead(
                    hours,
                    await reader.failure_groups(targets, question.which, READ_GROUPS, READ_IDS_OF_A_GROUP),
                )
        except LedgerError as exc:
            return FailuresRead(problem="unread", error=str(exc))
        except TimeoutError:
            return FailuresRead(problem="busy")

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[RunReader]:
        """
        Read the ledger: one page at a time, so that many who look are no burden for the polls.

        Raises: LedgerError; TimeoutError where the turn does not come, or reading does not end.
        """
        async with asyncio.timeout(_READING_SECONDS), self._reading, self._source.reading() as reader:
            yield reader


def _remembered(request: web.Request) -> str:
    return request.cookies.get(_COOKIE, "")


def _accepted(request: web.Request) -> str:
    return ",".join(request.headers.getall("Accept-Language", []))


async def _compressed(request: web.Request, body: bytes, content_type: str) -> web.Response:
    headers = {**_FRESH, "Content-Type": content_type, "Vary": "Accept-Encoding, Accept-Language, Cookie"}
    if accepts_gzip(",".join(request.headers.getall("Accept-Encoding", []))):
        body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)
