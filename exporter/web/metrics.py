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

from exporter.exposition.compression import Body, Piece, Run
from exporter.exposition.instruments import ProcessMetrics
from exporter.exposition.publication import Publisher
from exporter.exposition.render import Bodies, Format
from exporter.exposition.selection import select
from exporter.web.negotiation import accepts_gzip, choose_format

_TAIL_SECONDS = 0.25
# More than this is sent in chunks, so that no call on the event loop takes long.
_CHUNK_BYTES = 256 * 1024
_WHOLE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a scrape asks for; `names` are those of `name[]`, empty for everything."""

    format: Format
    gzip: bool
    names: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, accept: str, accept_encoding: str, names: Iterable[str] = ()) -> Wanted:
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
    """The body of an answer, in as many pieces as it comes in."""

    pieces: list[bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

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
class _Whole:
    """A whole body as it is sent again and again, made of these at that time."""

    bodies: Bodies
    tail: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class _Tail:
    read_at: float
    lines: bytes


class Scrapes:
    """Answers scrapes with what is published. Units: `timer` gives seconds that never step back."""

    def __init__(self, publisher: Publisher, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._publisher = publisher
        self._timer = timer
        self._process = ProcessMetrics()
        self._tails: dict[Format, _Tail] = {}
        self._wholes: dict[Wanted, _Whole] = {}

    def content(self, wanted: Wanted) -> Content:
        """Give everything that is published."""
        whole = self.whole(wanted)
        return self._content(wanted) if whole is None else Content([whole])

    def whole(self, wanted: Wanted) -> bytes | None:
        """Give the same in one piece, kept for the next scrape; None where it is too large for that."""
        bodies, tail = self._publisher.bodies, self._tail(wanted.format)
        known = self._wholes.get(wanted)
        if known is not None and known.bodies is bodies and known.tail is tail:
            return known.body
        content = self._content(wanted)
        if content.size > _WHOLE_BYTES:
            self._wholes.pop(wanted, None)
            return None
        self._wholes[wanted] = made = _Whole(bodies, tail, b"".join(content.pieces))
        return made.body

    def _content(self, wanted: Wanted) -> Content:
        body, tail = self._publisher.bodies.of(wanted.format), self._tail(wanted.format)
        return Content(body.gzip_with_tail(tail) if wanted.gzip else body.with_tail(tail))

    async def selected(self, wanted: Wanted) -> Content:
        """Give what is asked for by name."""
        body, tail = self._publisher.bodies.of(wanted.format), self._tail(wanted.format)
        # In a thread: every line is looked at.
        return await asyncio.to_thread(_selected, body, tail, wanted)

    def _tail(self, format_: Format) -> bytes:
        now, known = self._timer(), self._tails.get(format_)
        if known is None or now - known.read_at >= _TAIL_SECONDS:
            known = self._tails[format_] = _Tail(now, self._process.tail(format_))
        return known.lines


def _selected(body: Body, tail: bytes, wanted: Wanted) -> Content:
    lines = b"".join(select(body.with_tail(tail), wanted.names))
    made = Body.of([Run.of((Piece.of(lines),))])
    return Content(made.gzip_with_tail(b"") if wanted.gzip else [lines])


async def answer(scrapes: Scrapes, request: web.Request) -> web.StreamResponse:
    """Answer GET or HEAD /metrics."""
    names = request.query.getall("name[]", [])
    wanted = Wanted.of(_header(request, "Accept"), _header(request, "Accept-Encoding"), names)
    content = await scrapes.selected(wanted) if wanted.names else scrapes.content(wanted)
    response = web.StreamResponse(headers=wanted.headers)
    response.content_length = content.size
    await response.prepare(request)
    if request.method != "HEAD":
        for chunk in content.chunks():
            await response.write(chunk)
    await response.write_eof()
    return response


def _header(request: web.Request, name: str) -> str:
    """Join the header's lines; "" where there is none."""
    return ",".join(request.headers.getall(name, []))
