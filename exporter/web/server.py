"""
The HTTP server: listens on all addresses or none, and stops without waiting for idle clients.

Source: systemd, sd_listen_fds(3), read 2026-11, for the sockets that systemd passes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from itertools import chain, repeat
from typing import TYPE_CHECKING, cast

import structlog
from aiohttp import web

from exporter.config import ListenAddress, WebSettings
from exporter.errors import CannotListen, StartError
from exporter.web.connection import Connection, ConnectionLimiter, InternalFaults, max_connections

if TYPE_CHECKING:
    from exporter.web.toolkit import WebConfiguration

_SHUTDOWN_SECONDS = 2.0
_BACKLOG = 128
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - the addresses that stand for all interfaces
_HANDSHAKE_SECONDS = 10.0
# How long to wait after a failed accept: the system may be out of file descriptors or memory.
_PAUSE_SECONDS = 1.0
_FIRST_DESCRIPTOR = 3
_SYSTEMD_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Server:
    """Serves an application on listening sockets, from `start` to `close`, which also closes the sockets."""

    def __init__(
        self,
        app: web.Application,
        sockets: Sequence[socket.socket],
        ssl_context: ssl.SSLContext | None = None,
        limiter: ConnectionLimiter | None = None,
    ) -> None:
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._sockets = tuple(sockets)
        self._ssl_context = ssl_context
        self._limiter = limiter or ConnectionLimiter(max_connections())
        self._faults = InternalFaults()
        self._accept_tasks: list[asyncio.Task[None]] = []
        self._can_accept = True

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports, in the order of the addresses. A Unix socket has none."""
        return tuple(bound.getsockname()[1] for bound in self._sockets if bound.family != socket.AF_UNIX)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs that reach this server from this machine. A Unix socket is `unix:` and its path."""
        scheme = "http" if self._ssl_context is None else "https"
        urls = []
        for bound in self._sockets:
            if bound.family == socket.AF_UNIX:
                urls.append(f"unix:{bound.getsockname()}")
                continue
            host, port, *_ = bound.getsockname()
            if host in _ANY_ADDRESS:
                host = "localhost"
            urls.append(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")
        return tuple(urls)

    async def start(self) -> None:
        await self._runner.setup()
        for bound in self._sockets:
            # A socket from systemd may be blocking, and would stop the event loop.
            bound.setblocking(False)
            self._accept_tasks.append(asyncio.create_task(self._accept(bound), name="accept"))

    async def close(self) -> None:
        """Stop listening, let running requests finish, and cut those that take more than two seconds."""
        for task in self._accept_tasks:
            task.cancel()
        await asyncio.gather(*self._accept_tasks, return_exceptions=True)
        # Before the running requests end, so that new clients are refused and do not wait in vain.
        for bound in self._sockets:
            bound.close()
        await self._runner.cleanup()

    async def _accept(self, bound: socket.socket) -> None:
        """
        Accept clients until this task is cancelled.

        asyncio's own server does not report clients that are still in their TLS handshake, so the limit could
        not count them. It also logs a traceback every second when file descriptors run out.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as openings:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(bound)
                except ConnectionAbortedError:  # the client has already gone
                    continue
                except OSError as error:
                    self._log_change(error)
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                self._log_change(None)
                openings.create_task(self._open(accepted))
                # sock_accept() does not yield while clients are waiting: a flood would block the event loop.
                await asyncio.sleep(0)

    def _log_change(self, error: OSError | None) -> None:
        """Log when accepting begins to fail, and when it works again."""
        if error is not None and self._can_accept:
            structlog.get_logger().error("connections cannot be accepted", error=str(error))
        elif error is None and not self._can_accept:
            structlog.get_logger().info("connections are accepted again")
        self._can_accept = error is None

    async def _open(self, accepted: socket.socket) -> None:
        connection = Connection(cast("web.Server", self._runner.server), self._limiter, self._faults)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._ssl_context,
                ssl_handshake_timeout=None if self._ssl_context is None else _HANDSHAKE_SECONDS,
            )
        except BaseException as error:
            self._limiter.remove(connection)
            if not isinstance(error, Exception):  # such as the cancellation by `abort`
                raise
            if not isinstance(error, OSError):  # an OSError: the TLS handshake failed or timed out
                self._faults.log(error)


@asynccontextmanager
async def serving(
    app: web.Application,
    settings: WebSettings,
    configuration: WebConfiguration | None = None,
    *,
    systemd_socket: bool = False,
) -> AsyncIterator[Server]:
    """
    Serve the application while the block runs.

    Shape: `configuration` is reloaded when its files change; with `systemd_socket` the sockets from systemd
    replace the addresses of the settings. Raises: StartError.
    """
    sockets = take_sockets() if systemd_socket else bind_all(settings.listen)
    if not systemd_socket and passed_count():
        structlog.get_logger().warning("systemd has passed sockets; they are used with --web.systemd-socket")
    async with AsyncExitStack() as stack:
        if configuration is not None:
            await stack.enter_async_context(configuration.applied_to(app))
        server = Server(app, sockets, None if configuration is None else configuration.ssl_context)
        await server.start()
        stack.push_async_callback(server.close)
        yield server


def bind_all(addresses: Sequence[ListenAddress]) -> list[socket.socket]:
    """Bind every address. Raises: CannotListen if one cannot be bound; then none is kept."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(_bind(address)) for address in addresses]
        opened.pop_all()
    return sockets


def _bind(address: ListenAddress) -> socket.socket:
    try:
        if address.host is None:
            if not socket.has_dualstack_ipv6():
                return socket.create_server(("", address.port), backlog=_BACKLOG)
            # One socket for IPv4 and IPv6, so that port 0 becomes the same port for both.
            return socket.create_server(
                ("", address.port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        family, *_, sockaddr = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(sockaddr[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise CannotListen(f"cannot listen on {address}: {str(error.strerror).lower()}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise CannotListen(f"cannot listen on {address}: {reason}") from error


def passed_count(environ: MutableMapping[str, str] = os.environ) -> int:
    """Return how many sockets systemd passed to this process."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = environ.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdecimal() else 0


def take_sockets(
    environ: MutableMapping[str, str] = os.environ, first: int = _FIRST_DESCRIPTOR
) -> list[socket.socket]:
    """
    Take over the sockets that systemd passed.

    Its environment variables are removed: a child process would take them for its own.
    Raises: StartError (no socket was passed, or one does not listen).
    """
    count, names = passed_count(environ), environ.get("LISTEN_FDNAMES", "").split(":")
    for variable in _SYSTEMD_VARIABLES:
        environ.pop(variable, None)
    if count == 0:
        raise StartError("--web.systemd-socket: systemd has passed no socket to this process")
    with ExitStack() as taken:
        sockets = [
            taken.enter_context(_take(first + index, name))
            for index, name in zip(range(count), chain(names, repeat("")), strict=False)
        ]
        taken.pop_all()
    return sockets


def _take(descriptor: int, name: str) -> socket.socket:
    where = f"--web.systemd-socket: descriptor {descriptor} ({name or 'unnamed'})"
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        raise StartError(f"{where} is no socket") from error
    if taken.type != socket.SOCK_STREAM or not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        taken.close()
        raise StartError(f"{where} does not listen for connections")
    return taken
