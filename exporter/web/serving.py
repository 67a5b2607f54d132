"""Serving as the configuration says: where, over TLS or not, to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from aiohttp import web

from exporter.config import WebSettings
from exporter.web.activation import passed_count, take_sockets
from exporter.web.server import Server, bind_all, serve_on
from exporter.web.toolkit import Gate, WebConfiguration


@asynccontextmanager
async def serving(
    app: web.Application,
    settings: WebSettings,
    configuration: WebConfiguration | None = None,
    *,
    systemd_socket: bool = False,
) -> AsyncIterator[Server]:
    """
    Serve the application as long as the block runs.

    Shape: `configuration` follows its files meanwhile; with `systemd_socket` the sockets that systemd has
    opened stand in for the settings' addresses. Raises: StartError.
    """
    sockets = take_sockets() if systemd_socket else bind_all(settings.listen)
    if not systemd_socket and passed_count():
        structlog.get_logger().warning("systemd has passed sockets; they are used with --web.systemd-socket")
    async with AsyncExitStack() as stack:
        if configuration is not None:
            Gate(configuration).guard(app)
            await stack.enter_async_context(configuration.followed())
        context = None if configuration is None else configuration.ssl_context
        server = await serve_on(app, sockets, context)
        stack.push_async_callback(server.close)
        yield server
