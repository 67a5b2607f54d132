"""Listening: all addresses or none, and an end that does not wait for idle clients."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import cast

from aiohttp import web
from aiohttp.log import access_logger

from exporter.config import ListenAddress
from exporter.errors import StartError
from exporter.web.connection import Connection
from exporter.web.crowd import Crowd, room
from exporter.web.scraping import ShortWay

_SHUTDOWN_SECONDS = 2.0
_BACKLOG = 128
# A connection is no client's, to be counted, before this is over.
_HANDSHAKE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and the ports it got, in the order of the addresses; a Unix socket has none."""

    runner: web.AppRunner
    ports: tuple[int, ...]
    listeners: tuple[asyncio.Server, ...] = ()
    short_way: ShortWay | None = None

    async def close(self) -> None:
        """Stop listening, let the requests under way end, and cut what is left after two seconds."""
        for listener in self.listeners:
            listener.close()
        if self.short_way is not None:
            self.short_way.close()
        await self.runner.cleanup()


async def serve(
    app: web.Application, addresses: Sequence[ListenAddress], ssl_context: ssl.SSLContext | None = None
) -> Server:
    """Serve on every address. Raises: StartError where one of them cannot be had; then none is kept."""
    return await serve_on(app, bind_all(addresses), ssl_context)


async def serve_on(
    app: web.Application,
    sockets: Sequence[socket.socket],
    ssl_context: ssl.SSLContext | None = None,
    short_way: ShortWay | None = None,
    crowd: Crowd | None = None,
) -> Server:
    """
    Serve on sockets that are bound; they are closed with the server.

    Shape: `short_way` answers scrapes past the application, for an application nothing stands in front of;
    `crowd` says how many clients there may be, by default as many as this process has room for.
    """
    crowd = crowd or Crowd(room())
    ports = tuple(bound.getsockname()[1] for bound in sockets if bound.family != socket.AF_UNIX)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    protocol: Callable[[], asyncio.Protocol] = partial(Connection, cast("web.Server", runner.server), crowd)
    if short_way is not None and not access_logger.isEnabledFor(logging.DEBUG):
        protocol = short_way.before(protocol, crowd)
    loop = asyncio.get_running_loop()
    listeners = [
        await loop.create_server(
            protocol,
            sock=bound,
            backlog=_BACKLOG,
            ssl=ssl_context,
            ssl_handshake_timeout=None if ssl_context is None else _HANDSHAKE_SECONDS,
        )
        for bound in sockets
    ]
    return Server(runner, ports, tuple(listeners), short_way)


def bind_all(addresses: Sequence[ListenAddress]) -> list[socket.socket]:
    """Open every address. Raises: StartError where one of them cannot be had; then none is kept."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(_bind(address)) for address in addresses]
        opened.pop_all()
    return sockets


def _bind(address: ListenAddress) -> socket.socket:
    try:
        if address.host is None:
            return _bind_everywhere(address.port)
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, *_, where = found[0]
        return socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {address}: {str(error.strerror).lower()}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StartError(f"cannot listen on {address}: {reason}") from error


def _bind_everywhere(port: int) -> socket.socket:
    # One socket for both, so that port 0 is the same port in both.
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=_BACKLOG)
