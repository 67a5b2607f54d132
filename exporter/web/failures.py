"""
Serves `/api/v1/failures`: single failed runs from the ledger, as JSON or CSV.

An answer is read and sent piece by piece, so that it takes little memory however long it is. Two are read at
a time. A client that has kept its answer waiting for a minute in all loses the connection, so that no client
keeps one of the two places for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from exporter.errors import LedgerError
from exporter.model import TargetKey
from exporter.runs import FailedRun, RunReader, RunSource, Selection
from exporter.web.csv_text import csv_text
from exporter.web.negotiation import accepts_gzip
from exporter.web.run_question import BadQuestion, Format, RunQuestion, run_question
from exporter.web.run_record import FIELDS, run_record

READERS = 2
_PATIENCE_SECONDS = 60.0
_BUSY_SECONDS = 1.0
_RETRY_SECONDS = 5
# So many runs are read and sent at a time: a megabyte at most, a few kilobytes as a rule.
_PIECE = 100
_CONTENT_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
}

Masked = Callable[[str], str]


class _Busy(Exception):
    """All readers are in use."""


class Failures:
    """
    `/api/v1/failures`.

    Shape: `targets` gives the configured targets, and no other is shown; `masked` takes the secrets out of a
    text.
    Units: `clock` gives Unix seconds; an answer waits `patience_seconds` in all for its client.
    """

    def __init__(
        self,
        source: RunSource,
        targets: Callable[[], Sequence[TargetKey]],
        masked: Masked,
        clock: Callable[[], float],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._source = source
        self._targets = targets
        self._masked = masked
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._places = asyncio.Semaphore(READERS)

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/api/v1/failures", self.answer)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer GET or HEAD."""
        query = {name: request.query.getall(name) for name in request.query}
        try:
            question = run_question(query, int(self._clock() * 1000))
        except BadQuestion as bad:
            return _line("\n".join(bad.problems), 400)
        response = _Streamed(request, question, self._patience_seconds)
        try:
            async with self._place(), self._source.reading() as reader:
                return await self._stream(response, reader)
        except _Busy:
            why = f"failed runs are being read by {READERS} others: try again in a few seconds"
        except LedgerError as exc:
            why = self._masked(str(exc))
        except TimeoutError:
            why = "the client takes too long"
        if response.prepared:
            # An answer that ends early must not look like one that is complete.
            response.break_off()
            return response
        return _line(why, 503, {"Retry-After": str(_RETRY_SECONDS)})

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """
        Take a reader's place. Raises: _Busy.

        It is waited for a little: a client that has its answer may ask for the next page before the place of
        the one before is free.
        """
        try:
            async with asyncio.timeout(_BUSY_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise _Busy from None
        try:
            yield
        finally:
            self._places.release()

    async def _stream(self, response: _Streamed, reader: RunReader) -> web.StreamResponse:
        targets, question = self._targets(), response.question
        selection = await reader.select_failed(targets, question.which, question.limit, question.after)
        await response.begin(selection)
        if response.is_head:
            return response
        body = _BODIES[question.format](selection, self._masked)
        await response.write(body.head)
        for at in range(0, len(selection.keys), _PIECE):
            runs = await reader.failed(targets, selection.keys[at : at + _PIECE])
            # In a thread: masking and encoding take longer than a scrape should wait.
            await response.write(await asyncio.to_thread(body.piece, runs))
        await response.write(body.tail)
        await response.write_eof()
        return response


class _Streamed(web.StreamResponse):
    """
    The answer to one request; its headers tell whether more follows.

    Raises from `write`: TimeoutError where the client has kept it waiting for too long in all.
    """

    def __init__(self, request: web.Request, question: RunQuestion, patience_seconds: float) -> None:
        headers = {
            "Content-Type": _CONTENT_TYPES[question.format],
            "Cache-Control": "no-store",
            "Vary": "Accept-Encoding",
        }
        super().__init__(headers=headers)
        self.question = question
        self.is_head = request.method == "HEAD"
        self._request = request
        self._patience_seconds = patience_seconds
        if question.format == "csv":
            self.headers["Content-Disposition"] = 'attachment; filename="octopus-failures.csv"'
        if accepts_gzip(",".join(request.headers.getall("Accept-Encoding", []))):
            if self.is_head:
                self.headers["Content-Encoding"] = "gzip"
            else:
                self.enable_compression(web.ContentCoding.gzip)

    async def begin(self, selection: Selection) -> None:
        if selection.last is not None:
            query = dict(self._request.query) | {"next": str(selection.last)}
            if self.question.which.since_ms is not None:
                # A duration means another time at the next request.
                query["since"] = f"{self.question.which.since_ms / 1000:.3f}"
            self.headers["Link"] = f'<?{urlencode(query, errors="replace")}>; rel="next"'
        await self.prepare(self._request)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(self._patience_seconds):
            await super().write(data)
        self._patience_seconds -= loop.time() - began

    def break_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


@dataclass(slots=True)
class _Json:
    """{"failures": […], "next": …}, in pieces."""

    selection: Selection
    masked: Masked
    head: bytes = b'{"failures":['
    _begun: bool = False

    def piece(self, runs: Sequence[FailedRun]) -> bytes:
        records = [msgspec.json.encode(run_record(one.target, one.run, self.masked)) for one in runs]
        separator, self._begun = b",\n" if self._begun else b"\n", self._begun or bool(records)
        return separator + b",\n".join(records) if records else b""

    @property
    def tail(self) -> bytes:
        last = self.selection.last
        return b'],\n"next":' + msgspec.json.encode(None if last is None else str(last)) + b"}\n"


@dataclass(slots=True)
class _Csv:
    selection: Selection
    masked: Masked
    head: bytes = csv_text([FIELDS]).encode()
    tail: bytes = b""

    def piece(self, runs: Sequence[FailedRun]) -> bytes:
        return csv_text(astuple(run_record(one.target, one.run, self.masked)) for one in runs).encode(
            "utf-8", "replace"
        )


_BODIES: dict[Format, type[_Json | _Csv]] = {"json": _Json, "csv": _Csv}


def _line(text: str, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        text=f"{text}\n", status=status, headers={"Cache-Control": "no-store", **(headers or {})}
    )
