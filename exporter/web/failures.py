"""
Serves `/api/v1/failures`: single failed runs from the ledger, as JSON or CSV.

An answer is read and sent in pieces, so a long one takes little memory. Two answers are read at a time. A
client that delays its answer by a minute in total is disconnected; otherwise slow clients could hold both
slots for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Literal, get_args
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from exporter.errors import LedgerError
from exporter.model import TargetKey
from exporter.runs import FailedRun, Position, RunFilter, RunReader, RunSource, Selection
from exporter.web.negotiation import accepts_gzip, header
from exporter.web.run_filter import FILTER_PARAMETERS, ParameterReader, not_empty, quoted
from exporter.web.run_record import FIELDS, Masked, csv_text, run_record

ExportFormat = Literal["json", "csv"]
DEFAULT_LIMIT = 1_000
MAX_LIMIT = 10_000
READERS = 2

_PARAMETERS = (*FILTER_PARAMETERS, "limit", "next", "format")
_PATIENCE_SECONDS = 60.0
_BUSY_SECONDS = 1.0
_TRY_LATER = {"Retry-After": "5"}
# This many runs are read and sent at a time: usually a few kilobytes, at most a megabyte.
_RUNS_PER_PIECE = 100


@dataclass(frozen=True, slots=True)
class FailuresRequest:
    """The failed runs to list: at most `limit`, and with `after` only runs older than that position."""

    run_filter: RunFilter
    limit: int = DEFAULT_LIMIT
    after: Position | None = None
    format: ExportFormat = "json"


def read_failures_request(query: Mapping[str, Sequence[str]], now_ms: int) -> FailuresRequest:
    """Read a query: all values of each parameter. Raises: ValueError, with a line for every problem."""
    reader = ParameterReader(query)
    reader.problems += [
        f"{quoted(name)}: not a parameter of this page, expected one of {', '.join(_PARAMETERS)}"
        for name in query
        if name not in _PARAMETERS
    ]
    asked = FailuresRequest(
        reader.run_filter(now_ms, text=not_empty, code=str),
        reader.read("limit", _limit) or DEFAULT_LIMIT,
        reader.read("next", _position),
        reader.read("format", _format) or "json",
    )
    if reader.problems:
        raise ValueError("\n".join(reader.problems))
    return asked


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise ValueError(f"found {quoted(text)}, expected a number from 1 to {MAX_LIMIT}")


def _position(text: str) -> Position:
    try:
        return Position.parse(text)
    except ValueError as exc:
        raise ValueError(f"found {quoted(text)}, {exc}") from None


def _format(text: str) -> ExportFormat:
    for form in get_args(ExportFormat):
        if text == form:
            return form  # type: ignore[no-any-return]  # get_args returns the literals themselves
    raise ValueError(f"found {quoted(text)}, expected {' or '.join(get_args(ExportFormat))}")


class FailuresApi:
    """
    `/api/v1/failures`.

    Shape: `targets` returns the configured targets; runs of other targets are not listed.
    Units: `clock` gives Unix seconds; an answer waits `patience_seconds` in total for its client.
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
        self._slots = asyncio.Semaphore(READERS)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = {name: request.query.getall(name) for name in request.query}
        try:
            asked = read_failures_request(query, int(self._clock() * 1000))
        except ValueError as exc:
            return _plain_text(str(exc), 400)
        try:
            # Wait a moment: a client that pages may ask again before the slot of its last answer is free.
            async with asyncio.timeout(_BUSY_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            busy = f"failed runs are being read by {READERS} others: try again in a few seconds"
            return _plain_text(busy, 503, **_TRY_LATER)
        response = _FailuresResponse(request, asked, self._patience_seconds)
        try:
            async with self._source.reading() as reader:
                await self._stream(response, asked, reader)
            return response
        except LedgerError as exc:
            why = self._masked(str(exc))
        except TimeoutError:
            why = "the client takes too long"
        finally:
            self._slots.release()
        if response.prepared:
            # The client must not take a partial answer for a complete one.
            if request.transport is not None:
                request.transport.abort()
            return response
        return _plain_text(why, 503, **_TRY_LATER)

    async def _stream(self, response: _FailuresResponse, asked: FailuresRequest, reader: RunReader) -> None:
        targets, is_json = self._targets(), asked.format == "json"
        # Before the headers are sent: a failure here is still a 503, not a broken answer.
        selection = await reader.select_failed(targets, asked.run_filter, asked.limit, asked.after)
        await response.begin(selection)
        if response.is_head:
            return
        await response.write(b'{"failures":[' if is_json else csv_text([FIELDS]).encode())
        separator = b"\n"
        for at in range(0, len(selection.keys), _RUNS_PER_PIECE):
            runs = await reader.failed(targets, selection.keys[at : at + _RUNS_PER_PIECE])
            # In a thread: masking and encoding would block the event loop longer than a scrape may wait.
            piece = await asyncio.to_thread(_encode, runs, asked.format, self._masked)
            if piece:
                await response.write(separator + piece if is_json else piece)
                separator = b",\n"
        if is_json:
            following = None if selection.last is None else str(selection.last)
            await response.write(b'],\n"next":' + msgspec.json.encode(following) + b"}\n")
        await response.write_eof()


def _encode(runs: Sequence[FailedRun], form: ExportFormat, masked: Masked) -> bytes:
    records = [run_record(one.target, one.run, masked) for one in runs]
    if form == "json":
        return b",\n".join(map(msgspec.json.encode, records))
    return csv_text(map(astuple, records)).encode("utf-8", "replace")


class _FailuresResponse(web.StreamResponse):
    """The answer to one request. `write` raises TimeoutError once the client has delayed it for too long."""

    def __init__(self, request: web.Request, asked: FailuresRequest, patience_seconds: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "Vary": "Accept-Encoding"})
        self.is_head = request.method == "HEAD"
        self._request = request
        self._asked = asked
        self._patience_seconds = patience_seconds
        if asked.format == "json":
            self.headers["Content-Type"] = "application/json"
        else:
            self.headers["Content-Type"] = "text/csv; charset=utf-8; header=present"
            self.headers["Content-Disposition"] = 'attachment; filename="octopus-failures.csv"'
        if accepts_gzip(header(request, "Accept-Encoding")):
            if self.is_head:
                self.headers["Content-Encoding"] = "gzip"
            else:
                self.enable_compression(web.ContentCoding.gzip)

    async def begin(self, selection: Selection) -> None:
        """Send the headers; they link to the next page, if there is one."""
        if selection.last is not None:
            query = dict(self._request.query) | {"next": str(selection.last)}
            since_ms = self._asked.run_filter.since_ms
            if since_ms is not None:
                # A duration would mean a later time in the next request.
                query["since"] = f"{since_ms / 1000:.3f}"
            self.headers["Link"] = f'<?{urlencode(query, errors="replace")}>; rel="next"'
        await self.prepare(self._request)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(self._patience_seconds):
            await super().write(data)
        self._patience_seconds -= loop.time() - began


def _plain_text(text: str, status: int, **headers: str) -> web.Response:
    headers["Cache-Control"] = "no-store"
    return web.Response(text=f"{text}\n", status=status, headers=headers)
