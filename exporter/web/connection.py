"""A client's connection: HTTP as aiohttp speaks it, with limits, and silent about the client's own faults."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http import HttpProcessingError

# As many as Prometheus lets in by itself (--web.max-connections).
_MOST_CONNECTIONS = 512
# A client that takes nothing of its answer for so long is cut off: an answer keeps its publication in memory.
_STALL_SECONDS = 60.0
_REMINDER_SECONDS = 3600.0


def room() -> int:
    """Give how many connections this process may keep open: at most half of the files it may have."""
    files, _ = getrlimit(RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if files == RLIM_INFINITY else min(_MOST_CONNECTIONS, files // 2)


class Connections:
    """
    The connections that are open, at most so many: one more closes the one that has been idle longest.

    A client that sends nothing, or half a request, costs a file descriptor for as long as it likes. Without
    descriptors no other client gets in, and no new connection to the API is opened. A client that sends a
    request, or takes its answer, is never the one that has been idle longest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_idleness: OrderedDict[Connection, None] = OrderedDict()

    def active(self, connection: Connection) -> None:
        """Note that a client has connected, has sent something or has taken something."""
        self._by_idleness[connection] = None
        self._by_idleness.move_to_end(connection)
        if len(self._by_idleness) > self._most:
            idle, _ = self._by_idleness.popitem(last=False)
            idle.abort()

    def closed(self, connection: Connection) -> None:
        self._by_idleness.pop(connection, None)


class InternalFaults:
    """
    Logs what fails in this program while it answers: each fault once an hour at most, with its traceback.

    Shape: a fault is a type of exception, raised at one place in the code.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[type[BaseException], str], tuple[float, int]] = {}

    def tell(self, error: BaseException) -> None:
        places = traceback.extract_tb(error.__traceback__)
        fault = type(error), f"{places[-1].filename}:{places[-1].lineno}" if places else ""
        now = self._clock()
        told_at, since = self._told.get(fault, (-_REMINDER_SECONDS, 0))
        if now - told_at < _REMINDER_SECONDS:
            self._told[fault] = told_at, since + 1
            return
        self._told[fault] = now, 0
        structlog.get_logger().error(
            "a request could not be answered; this is a fault of octopus-exporter, please report it",
            not_logged_since=since,
            exc_info=error,
        )


class Connection(web.RequestHandler):
    """
    One client's connection, counted from the moment it is accepted, before any TLS handshake.

    Bytes that are no HTTP get a short 400. Any port scanner sends such bytes and breaks connections off, so
    neither is a line in the log, and no answer repeats what may be somebody's password.
    """

    __slots__ = ("_connections", "_faults", "_opening", "_stalled", "_wire")

    def __init__(self, server: web.Server, connections: Connections, faults: InternalFaults) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log_class=_AccessLog,
            # No page reads a body: an attacker's compressed one is not worth the time.
            auto_decompress=False,
        )
        self._connections = connections
        self._faults = faults
        self._opening = asyncio.current_task()
        self._wire: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None
        connections.active(self)

    def abort(self) -> None:
        """Close the connection at once, or give up opening it."""
        if self._wire is not None:
            self._wire.abort()
        elif self._opening is not None:
            self._opening.cancel()

    def opening_failed(self) -> None:
        """Note that there will be no connection."""
        self._connections.closed(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)
        self._opening = None
        # So that an answer counts as sent once all of it is the kernel's. At 0 asyncio's TLS pauses for good.
        self._wire.set_write_buffer_limits(high=1)
        super().connection_made(transport)
        self._connections.active(self)

    def data_received(self, data: bytes) -> None:
        if data:
            self._connections.active(self)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.closed(self)
        self._stop_watching()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        self._stop_watching()
        self._connections.active(self)
        super().resume_writing()

    def _watch(self) -> None:
        self._stalled = asyncio.get_running_loop().call_later(_STALL_SECONDS, self._look, self._unsent)

    def _look(self, unsent_before: int) -> None:
        if self._unsent >= unsent_before:
            self.abort()
        else:
            self._connections.active(self)
            self._watch()

    @property
    def _unsent(self) -> int:
        return 0 if self._wire is None else self._wire.get_write_buffer_size()

    def _stop_watching(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def log_exception(self, *args: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        if not isinstance(error, BaseException):
            super().log_exception(*args, **kw)
        elif self._is_clients(error):
            self.logger.debug("a client's request failed: %s", type(error).__name__)
        else:
            self._faults.tell(error)

    def _is_clients(self, error: BaseException) -> bool:
        """Tell whether the client caused this: by what it has sent, or by leaving."""
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            return True
        left = self._wire is None or self._wire.is_closing()
        return left and isinstance(error, ConnectionError)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self.log_exception(exc_info=exc)
        # aiohttp would put its version and Python's there.
        headers = {"Server": "octopus-exporter"}
        response = web.Response(text="this is no request in HTTP/1.1\n", status=status, headers=headers)
        response.force_close()
        return response


class _AccessLog(AbstractAccessLogger):
    """Requests are worth a line only to someone who debugs."""

    @property
    def enabled(self) -> bool:
        return self.logger.isEnabledFor(logging.DEBUG)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.logger.debug("%s %s %d in %.4f s", request.method, request.raw_path, response.status, time)
