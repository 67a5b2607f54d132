"""
/metrics: the last publication followed by the process's own metrics, in the format and coding of the client.

A scrape copies bytes and renders nothing; only `name[]` makes it read lines, and the first gzip request for a
format has everything compressed. The process's metrics are read
at most four times a second, however many clients scrape. They change all the time, so there is no ETag:
conditional and range requests get the whole answer, and caches are told not to store it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from exporter.exposition.compression import Body
from exporter.exposition.instruments import ProcessMetrics
from exporter.exposition.publication import Publisher
from exporter.exposition.render import Exposition, Format
from exporter.exposition.selection import select
from exporter.web.negotiation import accepts_gzip, choose_format, header

_PROCESS_METRICS_SECONDS = 0.25
# A larger body is sent in chunks, so that no single write blocks the event loop for long.
_CHUNK_BYTES = 256 * 1024

OnServed = Callable[[Exposition], None]
"""
Called with the publication of each scrape that was answered completely.

Completely: the last byte of a GET's body was handed to the operating system (over TLS: to the TLS layer), and
the connection was still open. HEAD, and a scrape of single families by `name[]`, do not count.
"""


@dataclass(frozen=True, slots=True)
class ScrapeRequest:
    """What a scrape asks for. Shape: `names` are those of `name[]`, empty for all metrics."""

    format: Format
    gzip: bool
    names: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Content:
    """The body of an answer. Shape: `published` is the publication if the body has all of it, else None."""

    pieces: list[bytes]
    size: int
    published: Exposition | None = None

    def chunks(self) -> Iterator[bytes]:
        """Return the body in chunks of a size that can be sent at once."""
        chunk, size = list[bytes](), 0
        for piece in self.pieces:
            chunk.append(piece)
            size += len(piece)
            if size >= _CHUNK_BYTES:
                yield b"".join(chunk)
                chunk, size = [], 0
        yield b"".join(chunk)


class ScrapeCache:
    """Answers scrapes. Units: `timer` gives seconds of a clock that is never set back."""

    def __init__(
        self,
        publisher: Publisher,
        on_served: OnServed | None = None,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._on_served = on_served
        self._timer = timer
        self._process = ProcessMetrics()
        # The process metrics in each format, after the time when they were read.
        self._tails: dict[Format, tuple[float, bytes]] = {}
        # Answers, each after the process metrics that it ends with.
        self._known: dict[ScrapeRequest, tuple[bytes, Content]] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        wanted = ScrapeRequest(
            choose_format(header(request, "Accept")),
            accepts_gzip(header(request, "Accept-Encoding")),
            frozenset(name.encode("utf-8", "replace") for name in request.query.getall("name[]", [])),
        )
        bodies, tail = self._publisher.exposition, self._tail(wanted.format)
        body = bodies.of(wanted.format)
        if wanted.names:
            # In a thread: it reads every line.
            content = await asyncio.to_thread(_select, body, tail, wanted)
        else:
            if wanted.gzip and not body.is_compressed:
                # In a thread: it takes long. From now on it is done at each publication.
                await asyncio.to_thread(body.compress)
            content = self.content(wanted, bodies)
        headers = {"Content-Type": wanted.format.value}
        if wanted.gzip:
            headers["Content-Encoding"] = "gzip"
        headers |= {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
        return web.Response(body=_ContentPayload(content, request, self._on_served), headers=headers)

    def content(self, wanted: ScrapeRequest, bodies: Exposition) -> Content:
        """Return all metrics. The process metrics are compressed once per reading, not by every scrape."""
        tail = self._tail(wanted.format)
        known_tail, known = self._known.get(wanted, (b"", None))
        if known is not None and known.published is bodies and known_tail is tail:
            return known
        body = bodies.of(wanted.format)
        pieces = body.gzip_with_tail(tail) if wanted.gzip else body.with_tail(tail)
        content = Content(pieces, sum(map(len, pieces)), bodies)
        # An entry of an older publication would keep that publication in memory.
        self._known = {key: value for key, value in self._known.items() if value[1].published is bodies}
        self._known[wanted] = tail, content
        return content

    def _tail(self, format_: Format) -> bytes:
        now = self._timer()
        read_at, lines = self._tails.get(format_, (None, b""))
        if read_at is None or now - read_at >= _PROCESS_METRICS_SECONDS:
            lines = self._process.tail(format_)
            self._tails[format_] = now, lines
        return lines


def _select(body: Body, tail: bytes, wanted: ScrapeRequest) -> Content:
    lines = b"".join(select(body.with_tail(tail), wanted.names))
    pieces = [lines]
    if wanted.gzip:
        pieces = Body([pieces]).gzip_with_tail(b"")
    return Content(pieces, sum(map(len, pieces)))


class _ContentPayload(Payload):
    """Sends a content after the handler has returned. A client that disconnects before is no error."""

    def __init__(self, content: Content, request: web.Request, on_served: OnServed | None) -> None:
        super().__init__(content)
        self._content = content
        self._request = request
        self._on_served = on_served

    @property
    def size(self) -> int:
        return self._content.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._content.pieces).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for chunk in self._content.chunks():
            await writer.write(chunk)
        await writer.drain()
        published = self._content.published
        if self._on_served is not None and published is not None and self._request.transport is not None:
            self._on_served(published)
