"""A connection as aiohttp speaks HTTP on it."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http import HttpProcessingError

from exporter.web.crowd import Crowd


class Connection(web.RequestHandler):
    """
    One client's connection.

    What cannot be understood as HTTP gets a short 400. Any port scanner sends such, so it is no line in the
    log, let alone a traceback, and neither the answer nor the log repeats what may be somebody's password.
    """

    __slots__ = ("_crowd",)

    def __init__(self, server: web.Server, crowd: Crowd) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log_class=_AccessLog)
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._crowd.heard(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        if self.transport is not None:
            self._crowd.heard(self.transport)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.transport is not None:
            self._crowd.left(self.transport)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self.logger.debug("not understood: %s", type(exc).__name__)
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
