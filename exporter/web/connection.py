"""A client's connection: aiohttp's HTTP with limits, and without log lines for the client's own errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http import HttpProcessingError

from exporter.state_log import place_of

# The same default as Prometheus (--web.max-connections).
_MAX_CONNECTIONS = 512
# A client that reads nothing for this long is disconnected: its answer keeps an old publication in memory.
_STALL_SECONDS = 60.0
_REMINDER_SECONDS = 3600.0


def max_connections() -> int:
    """Return how many connections this process may keep open: at most half of its file descriptors."""
    files, _ = getrlimit(RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if files == RLIM_INFINITY else min(_MAX_CONNECTIONS, files // 2)


class ConnectionLimiter:
    """
    Limits the open connections: one more closes the one that was idle longest.

    A client that sends nothing, or half a request, keeps a file descriptor. If they run out, no other client
    can connect and no new connection to the API can be opened. A client that sends a request or reads its
    answer is active, so it is not the one that is closed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # The connection that was idle longest comes first.
        self._open: OrderedDict[Connection, None] = OrderedDict()

    def touch(self, connection: Connection) -> None:
        """Note that a client connected, sent data or read data."""
        self._open[connection] = None
        self._open.move_to_end(connection)
        if len(self._open) > self._most:
            idle, _ = self._open.popitem(last=False)
            idle.abort()

    def remove(self, connection: Connection) -> None:
        self._open.pop(connection, None)


class InternalFaults:
    """Logs faults of this program (a type of exception at a line of code), each at most once an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[tuple[str, str, int], tuple[float, int]] = {}

    def log(self, error: BaseException) -> None:
        fault = place_of(error)
        now = self._clock()
        logged_at, suppressed = self._logged.get(fault, (-_REMINDER_SECONDS, 0))
        if now - logged_at < _REMINDER_SECONDS:
            self._logged[fault] = logged_at, suppressed + 1
            return
        self._logged[fault] = now, 0
        structlog.get_logger().error(
            "a request could not be answered; this is a fault of octopus-exporter, please report it",
            not_logged_since=suppressed,
            exc_info=error,
        )


class Connection(web.RequestHandler):
    """
    One client's connection. It counts from the moment it is accepted, before any TLS handshake.

    Bytes that are not HTTP are answered with a short 400. Port scanners send such bytes and drop connections,
    so neither is logged. The answer does not repeat the bytes: they may contain a password.
    """

    __slots__ = ("_faults", "_limiter", "_opening", "_stall_timer", "_wire")

    def __init__(self, server: web.Server, limiter: ConnectionLimiter, faults: InternalFaults) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log_class=_AccessLog,
            # No page reads a request body, so do not spend time on decompressing one.
            auto_decompress=False,
        )
        self._limiter = limiter
        self._faults = faults
        self._opening = asyncio.current_task()
        self._wire: asyncio.Transport | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        limiter.touch(self)

    def abort(self) -> None:
        """Close the connection at once, or stop opening it."""
        if self._wire is not None:
            self._wire.abort()
        elif self._opening is not None:
            self._opening.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)
        self._opening = None
        # With the lowest limit, drain() returns only when the kernel has all of the answer. It cannot be 0:
        # asyncio's TLS transport would then never resume.
        self._wire.set_write_buffer_limits(high=1)
        super().connection_made(transport)
        self._limiter.touch(self)

    def data_received(self, data: bytes) -> None:
        if data:
            self._limiter.touch(self)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._limiter.remove(self)
        self._stop_stall_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_stall_timer()

    def resume_writing(self) -> None:
        self._stop_stall_timer()
        self._limiter.touch(self)
        super().resume_writing()

    def _start_stall_timer(self) -> None:
        unsent = 0 if self._wire is None else self._wire.get_write_buffer_size()
        self._stall_timer = asyncio.get_running_loop().call_later(_STALL_SECONDS, self._check, unsent)

    def _check(self, unsent_before: int) -> None:
        """Disconnect a client that has read nothing since the timer was started."""
        if self._wire is None or self._wire.get_write_buffer_size() >= unsent_before:
            self.abort()
        else:
            self._limiter.touch(self)
            self._start_stall_timer()

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def log_exception(self, *args: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        if not isinstance(error, BaseException):
            super().log_exception(*args, **kw)
            return
        # The client causes an error by an invalid request, or by disconnecting.
        invalid = isinstance(error, HttpProcessingError | web.RequestPayloadError)
        disconnected = self._wire is None or self._wire.is_closing()
        if invalid or (disconnected and isinstance(error, ConnectionError)):
            self.logger.debug("a client's request failed: %s", type(error).__name__)
        else:
            self._faults.log(error)

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
        # By default aiohttp sends its own version and Python's.
        headers = {"Server": "octopus-exporter"}
        response = web.Response(text="this is no request in HTTP/1.1\n", status=status, headers=headers)
        response.force_close()
        return response


class _AccessLog(AbstractAccessLogger):
    """Logs requests at level debug only."""

    @property
    def enabled(self) -> bool:
        return self.logger.isEnabledFor(logging.DEBUG)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.logger.debug("%s %s %d in %.4f s", request.method, request.raw_path, response.status, time)
