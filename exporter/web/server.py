"""Listening: all addresses or none, and an end that does not wait for idle clients."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from typing import cast

import structlog
from aiohttp import web

from exporter.config import ListenAddress
from exporter.errors import CannotListen
from exporter.web.connection import Connection, Connections, InternalFaults, room

_SHUTDOWN_SECONDS = 2.0
_BACKLOG = 128
_EVERY_INTERFACE = ("0.0.0.0", "::")  # noqa: S104 - what the kernel calls them
_HANDSHAKE_SECONDS = 10.0
# How long to wait where the kernel gives no new connection: it may be short of descriptors or of memory.
_PAUSE_SECONDS = 1.0


class Server:
    """
    Serves an application on sockets that are bound and listen, from `start` to `close`, which closes them.

    Shape: `connections` says how many there may be, by default as many as this process has room for.
    """

    def __init__(
        self,
        app: web.Application,
        sockets: Sequence[socket.socket],
        ssl_context: ssl.SSLContext | None = None,
        connections: Connections | None = None,
    ) -> None:
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._sockets = tuple(sockets)
        self._ssl_context = ssl_context
        self._connections = connections or Connections(room())
        self._faults = InternalFaults()
        self._accepting: list[asyncio.Task[None]] = []
        self._accepts = True

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports in the order of the addresses; a Unix socket has none."""
        return tuple(bound.getsockname()[1] for bound in self._sockets if bound.family != socket.AF_UNIX)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of the addresses, as this machine reaches them; a Unix socket is `unix:` and its path."""
        scheme = "http" if self._ssl_context is None else "https"
        return tuple(_url(scheme, bound) for bound in self._sockets)

    async def start(self) -> None:
        await self._runner.setup()
        for bound in self._sockets:
            bound.setblocking(False)
            self._accepting.append(asyncio.create_task(self._accept(bound), name="accept"))

    async def close(self) -> None:
        """Stop listening, let the requests under way end, and cut what is left after two seconds."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for bound in self._sockets:
            bound.close()
        await self._runner.cleanup()

    async def _accept(self, bound: socket.socket) -> None:
        """
        Open a connection for every client, as long as the task lives.

        asyncio's own server is not told which clients are still at their TLS handshake, so they could not be
        counted; and where descriptors run out it logs a traceback a second.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as opening:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(bound)
                except ConnectionAbortedError:  # by a client that has left already
                    continue
                except OSError as error:
                    self._tell(error)
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                self._tell(None)
                opening.create_task(self._open(accepted))
                # An accept that succeeds at once does not let others run, and there may always be one more.
                await asyncio.sleep(0)

    def _tell(self, error: OSError | None) -> None:
        """Log when connections cannot be accepted any more, and when they can again."""
        if error is not None and self._accepts:
            structlog.get_logger().error("connections cannot be accepted", error=str(error))
        elif error is None and not self._accepts:
            structlog.get_logger().info("connections are accepted again")
        self._accepts = error is None

    async def _open(self, accepted: socket.socket) -> None:
        connection = Connection(cast("web.Server", self._runner.server), self._connections, self._faults)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._ssl_context,
                ssl_handshake_timeout=None if self._ssl_context is None else _HANDSHAKE_SECONDS,
            )
        except asyncio.CancelledError:
            connection.opening_failed()
            raise
        except OSError:  # the client's handshake has failed, or has not come in time
            connection.opening_failed()
        except Exception as error:
            connection.opening_failed()
            self._faults.tell(error)


def _url(scheme: str, bound: socket.socket) -> str:
    if bound.family == socket.AF_UNIX:
        return f"unix:{bound.getsockname()}"
    host, port, *_ = bound.getsockname()
    if host in _EVERY_INTERFACE:
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def serve(
    app: web.Application, addresses: Sequence[ListenAddress], ssl_context: ssl.SSLContext | None = None
) -> Server:
    """Serve on every address. Raises: CannotListen where one of them cannot be had; then none is kept."""
    return await serve_on(app, bind_all(addresses), ssl_context)


async def serve_on(
    app: web.Application,
    sockets: Sequence[socket.socket],
    ssl_context: ssl.SSLContext | None = None,
    connections: Connections | None = None,
) -> Server:
    """Serve on sockets that are bound."""
    server = Server(app, sockets, ssl_context, connections)
    await server.start()
    return server


def bind_all(addresses: Sequence[ListenAddress]) -> list[socket.socket]:
    """Open every address. Raises: CannotListen where one of them cannot be had; then none is kept."""
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
        raise CannotListen(f"cannot listen on {address}: {str(error.strerror).lower()}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise CannotListen(f"cannot listen on {address}: {reason}") from error


def _bind_everywhere(port: int) -> socket.socket:
    # One socket for both, so that port 0 is the same port in both.
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=_BACKLOG)
