"""Serves the status page and the status as JSON, each from what was published last."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from exporter import __version__
from exporter.errors import LedgerError
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.runs import RunSource
from exporter.web.negotiation import accepts_gzip
from exporter.web.page import Page, Question
from exporter.web.page_language import choose_language, known
from exporter.web.status import About, RecentFailures, Status, status

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

    async def about(self) -> About:
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
        self._page = Page()
        self._rendering = asyncio.Lock()
        self._reading = asyncio.Lock()

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/", self.page), web.get("/api/v1/status", self.api_status)]

    async def page(self, request: web.Request) -> web.Response:
        question = _question(request)
        layout = await self._layout()
        # In threads, here and below: with hundreds of targets it takes longer than a scrape should wait.
        # One page at a time, however many look: the scrapes are to get through.
        async with self._rendering:
            html = await asyncio.to_thread(lambda: self._page.render(layout(), question))
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
        layout = await self._layout()
        json = await asyncio.to_thread(lambda: msgspec.json.encode(layout()))
        return await _compressed(request, json, "application/json")

    async def _layout(self) -> Callable[[], Status]:
        """Take what there is to show, now; the laying out is left to another thread."""
        source, now_ms = self._source, int(self._clock() * 1000)
        about, snapshots = await source.about(), tuple(source.snapshots())
        missing, progress = source.ready(), source.progress()
        recent = await self._recent_failures([shown.target.key for shown in snapshots])
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

    async def _recent_failures(self, targets: Sequence[TargetKey]) -> RecentFailures:
        """Read them for this answer; the rest of it is shown whatever comes of that."""
        try:
            async with asyncio.timeout(_READING_SECONDS), self._reading, self._source.reading() as reader:
                return RecentFailures(await reader.recent_failures(targets, RECENT_FAILURES))
        except LedgerError as exc:
            return RecentFailures(error=self._masked(str(exc)))
        except TimeoutError:
            return RecentFailures(error=f"the ledger could not be read within {_READING_SECONDS:g} s")


def _question(request: web.Request) -> Question:
    query, wanted = request.query, request.query.get("lang", "")
    accepted = ",".join(request.headers.getall("Accept-Language", []))
    language = choose_language(wanted, request.cookies.get(_COOKIE, ""), accepted)
    return Question(language, known(wanted) is not None, query.get("project"), query.get("workspace"))


async def _compressed(request: web.Request, body: bytes, content_type: str) -> web.Response:
    headers = {**_FRESH, "Content-Type": content_type, "Vary": "Accept-Encoding, Accept-Language, Cookie"}
    if accepts_gzip(",".join(request.headers.getall("Accept-Encoding", []))):
        body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)
