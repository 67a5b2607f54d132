"""
The short way for scrapes: a connection on which nothing but plain scrapes come is answered without aiohttp.

Prometheus sends the same bytes again and again, and gets bytes that are ready. The first request that is
anything else, or does not come in one piece, takes its connection over to aiohttp for good, where the same
scrape is answered alike by exporter.web.metrics. What stands in front of the pages (users, rate limits,
headers) stands there: who has any of it must not open this way.
Source: RFC 9112, sections 3 and 5 (the request), 9.3 (persistence).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import cast

from exporter.web.crowd import Crowd
from exporter.web.metrics import Scrapes, Wanted

_IDLE_SECONDS = 3600.0
_REQUEST_BYTES = 4096
_START, _END = b"GET /metrics HTTP/1.1\r\n", b"\r\n\r\n"
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
# What else a field could say (a body, an upgrade, the end of the connection, credentials) is not for here.
_LISTS = frozenset({b"accept", b"accept-encoding"})
_FIELDS = _LISTS | {b"host", b"user-agent", b"x-prometheus-scrape-timeout-seconds"}


def understood(request: bytes) -> Wanted | None:
    """Give what is wanted by a request that is a plain scrape and nothing more; else None."""
    if len(request) > _REQUEST_BYTES or not (request.startswith(_START) and request.endswith(_END)):
        return None
    return _understood(request)


@lru_cache(maxsize=64)
def _understood(request: bytes) -> Wanted | None:
    found: dict[bytes, list[bytes]] = {}
    for line in request.removeprefix(_START).removesuffix(_END).split(b"\r\n"):
        field = _FIELD.fullmatch(line)
        if field is None or field[1].lower() not in _FIELDS:
            return None
        found.setdefault(field[1].lower(), []).append(field[2].strip())
    if b"host" not in found or any(len(found[name]) > 1 for name in found.keys() - _LISTS):
        return None
    accept, accept_encoding = (
        b",".join(found.get(name, ())).decode("latin-1") for name in (b"accept", b"accept-encoding")
    )
    return Wanted.of(accept, accept_encoding)


class ShortWay:
    """
    Opens connections that are answered directly, and closes them.

    Shape: `headers` come with every answer, beside those of the scrape itself.
    """

    def __init__(self, scrapes: Scrapes, headers: Mapping[str, str]) -> None:
        self._scrapes = scrapes
        self._headers = dict(headers)
        self._answers: dict[Wanted, tuple[bytes, bytes]] = {}
        self._open: set[_Connection] = set()

    def before(
        self, following: Callable[[], asyncio.Protocol], crowd: Crowd
    ) -> Callable[[], asyncio.Protocol]:
        """Give the protocol to listen with; `following` makes the one that takes over."""
        return lambda: _Connection(self, following, crowd)

    def answer(self, wanted: Wanted) -> bytes | None:
        """Give a whole answer, or None where it is too large."""
        body = self._scrapes.whole(wanted)
        if body is None:
            return None
        known = self._answers.get(wanted)
        if known is None or known[0] is not body:
            known = self._answers[wanted] = body, self._head(wanted, len(body)) + body
        return known[1]

    def _head(self, wanted: Wanted, size: int) -> bytes:
        fields = {
            **wanted.headers,
            **self._headers,
            "Content-Length": str(size),
            "Date": formatdate(usegmt=True),
        }
        lines = ("HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields.items()), "", "")
        return "\r\n".join(lines).encode("latin-1")

    def opened(self, connection: _Connection) -> None:
        self._open.add(connection)

    def ended(self, connection: _Connection) -> None:
        """The connection is closed, or is aiohttp's now."""
        self._open.discard(connection)

    def close(self) -> None:
        """Close what is open, once what is being sent has been sent."""
        for connection in tuple(self._open):
            connection.close()


class _Connection(asyncio.Protocol):
    """One client, for as long as it does nothing but scrape."""

    def __init__(self, way: ShortWay, following: Callable[[], asyncio.Protocol], crowd: Crowd) -> None:
        self._way = way
        self._following = following
        self._crowd = crowd
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._asked_at = self._loop.time()
        self._idle = self._loop.call_later(_IDLE_SECONDS, self._close_if_idle)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # A client that has vanished is noticed by its machine's silence.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._way.opened(self)
        self._crowd.heard(self._transport)

    def data_received(self, data: bytes) -> None:
        wanted = understood(data)
        answer = None if wanted is None else self._way.answer(wanted)
        if answer is None:
            self._hand_over(data)
        else:
            self._asked_at = self._loop.time()
            self._crowd.heard(self._transport)
            self._transport.write(answer)

    def pause_writing(self) -> None:
        # Who does not read what was sent is not read from either.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def _hand_over(self, data: bytes) -> None:
        self._end()
        protocol = self._following()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

    def _close_if_idle(self) -> None:
        left = self._asked_at + _IDLE_SECONDS - self._loop.time()
        if left <= 0:
            self._transport.close()
        else:
            self._idle = self._loop.call_later(left, self._close_if_idle)

    def close(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.left(self._transport)
        self._end()

    def _end(self) -> None:
        self._idle.cancel()
        self._way.ended(self)
