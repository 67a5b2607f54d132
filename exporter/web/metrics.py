"""
/metrics: what is published, with the process's own metrics behind it, in the format and coding asked for.

A scrape copies bytes; only `name[]` makes it look at them. The process's metrics are read a few times a
second at most, however often one scrapes. They make every answer another, so there is no ETag: a condition or
a range in the request is not looked at, and nobody is to store the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from exporter.exposition.compression import Body, Chunk, Segment
from exporter.exposition.instruments import ProcessMetrics
from exporter.exposition.publication import Publisher
from exporter.exposition.render import Exposition, Format
from exporter.exposition.selection import select
from exporter.web.negotiation import accepts_gzip, choose_format, header

_TAIL_SECONDS = 0.25
# More than this is sent in chunks, so that no call on the event loop takes long.
_CHUNK_BYTES = 256 * 1024

OnServed = Callable[[Exposition], None]
"""
Told of each scrape that was answered completely, with the publication it was given.

Completely: the last byte of a GET's body was handed to the operating system (over TLS: to the TLS layer), on
a connection that still stood. HEAD, and a scrape of single families by `name[]`, do not count.
"""


@dataclass(frozen=True, slots=True)
class ScrapeRequest:
    """What a scrape asks for; `names` are those of `name[]`, empty for everything."""

    format: Format
    gzip: bool
    names: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, accept: str, accept_encoding: str, names: Iterable[str] = ()) -> ScrapeRequest:
        """Understand the headers, "" where there was none, and the query."""
        asked = frozenset(name.encode("utf-8", "replace") for name in names)
        return cls(choose_format(accept), accepts_gzip(accept_encoding), asked)

    @property
    def headers(self) -> dict[str, str]:
        """Give the headers of the answer, but for its length."""
        coding = {"Content-Encoding": "gzip"} if self.gzip else {}
        vary = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
        return {"Content-Type": self.format.value, **coding, **vary}


@dataclass(frozen=True, slots=True)
class Content:
    """
    The body of an answer, in the pieces it is kept in.

    Shape: `published` is the publication that all of it shows, None where it shows a part.
    """

    pieces: list[bytes]
    size: int
    published: Exposition | None = None

    def chunks(self) -> Iterator[bytes]:
        """Give it in chunks of a size that can be sent at once."""
        chunk, size = list[bytes](), 0
        for piece in self.pieces:
            chunk.append(piece)
            size += len(piece)
            if size >= _CHUNK_BYTES:
                yield b"".join(chunk)
                chunk, size = [], 0
        yield b"".join(chunk)


@dataclass(frozen=True, slots=True)
class _Tail:
    read_at: float
    lines: bytes


class ScrapeCache:
    """Answers scrapes with what is published. Units: `timer` gives seconds that never step back."""

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
        self._tails: dict[Format, _Tail] = {}
        self._known: dict[ScrapeRequest, tuple[bytes, Content]] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer GET or HEAD /metrics."""
        names = request.query.getall("name[]", [])
        wanted = ScrapeRequest.of(header(request, "Accept"), header(request, "Accept-Encoding"), names)
        content = await self._selected(wanted) if wanted.names else self.content(wanted)
        return web.Response(body=_Sending(content, request, self._on_served), headers=wanted.headers)

    def content(self, wanted: ScrapeRequest) -> Content:
        """Give everything that is published. Its tail is compressed once, not by every scrape."""
        bodies, tail = self._publisher.bodies, self._tail(wanted.format)
        known_tail, known = self._known.get(wanted, (b"", None))
        if known is not None and known.published is bodies and known_tail is tail:
            return known
        body = bodies.of(wanted.format)
        pieces = body.gzip_with_tail(tail) if wanted.gzip else body.with_tail(tail)
        content = Content(pieces, sum(map(len, pieces)), bodies)
        # What shows an older publication would keep it in memory.
        self._known = {key: value for key, value in self._known.items() if value[1].published is bodies}
        self._known[wanted] = tail, content
        return content

    async def _selected(self, wanted: ScrapeRequest) -> Content:
        """Give what is asked for by name."""
        body, tail = self._publisher.bodies.of(wanted.format), self._tail(wanted.format)
        # In a thread: every line is looked at.
        return await asyncio.to_thread(_select, body, tail, wanted)

    def _tail(self, format_: Format) -> bytes:
        now, known = self._timer(), self._tails.get(format_)
        if known is None or now - known.read_at >= _TAIL_SECONDS:
            known = self._tails[format_] = _Tail(now, self._process.tail(format_))
        return known.lines


def _select(body: Body, tail: bytes, wanted: ScrapeRequest) -> Content:
    lines = b"".join(select(body.with_tail(tail), wanted.names))
    made = Body.of([Segment.of((Chunk.of(lines),))])
    pieces = made.gzip_with_tail(b"") if wanted.gzip else [lines]
    return Content(pieces, sum(map(len, pieces)))


class _Sending(Payload):
    """
    Sends a content as an answer's body.

    aiohttp does it once the handler has returned, and takes a client that leaves meanwhile for no error.
    """

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
