"""A TCP proxy before a database: it cuts connections at their COMMIT, or lets nothing through for a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

from tests.e2e.processes import free_port

T = TypeVar("T")
# Before: the server never hears of it. After: the server commits, and nobody is told.
Moment = Literal["before", "after"]
_COMMIT = b"COMMIT"
_CHUNK = 1 << 16


class CutProxy:
    """Passes bytes between clients and a server; is told from another thread what to do to them."""

    def __init__(self, server_port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = free_port()
        self.cuts = 0
        self.is_holding = False
        self._server_port = server_port
        self._loop = loop
        self._waiting: list[Moment] = []
        self._hold_at = b""
        self._open: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self._listener: asyncio.Server | None = None

    def cut_at_commit(self, moment: Moment) -> None:
        """Cut the next connection that sends a COMMIT, once."""
        self._loop.call_soon_threadsafe(self._waiting.append, moment)

    def hold(self) -> None:
        """Let nothing through, and close nothing, as a network that loses every packet."""
        self._loop.call_soon_threadsafe(self._hold)

    def hold_at(self, words: bytes) -> None:
        """Let nothing through from the next message on that has these words; then `is_holding`."""

        def remember() -> None:
            self._hold_at = words

        self._loop.call_soon_threadsafe(remember)

    def let_through(self) -> None:
        """Let everything through again, also what was held."""
        self._loop.call_soon_threadsafe(self._let_through)

    def settle(self) -> None:
        """Cut nothing and hold nothing any more."""
        self._loop.call_soon_threadsafe(self._waiting.clear)
        self.let_through()

    def _hold(self) -> None:
        self.is_holding = True
        self._passes.clear()

    def _let_through(self) -> None:
        self.is_holding, self._hold_at = False, b""
        self._passes.set()

    async def listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._passes.wait()
                there = await asyncio.open_connection("127.0.0.1", self._server_port)
                await _Passage(self, (reader, writer), there).run()
        finally:
            self._open.discard(task)
            writer.close()

    async def may_pass(self, data: bytes) -> None:
        """Wait until this may go on."""
        if self._hold_at and self._hold_at in data:
            self._hold()
        await self._passes.wait()

    def due_cut(self, data: bytes) -> Moment | None:
        """Say whether what a client sends is to be cut."""
        if not self._waiting or _COMMIT not in data:
            return None
        self.cuts += 1
        return self._waiting.pop(0)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Passage:
    """One connection through the proxy. It ends at both sides at once."""

    def __init__(self, proxy: CutProxy, client: Streams, server: Streams) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._ends_at_answer = False

    async def run(self) -> None:
        ways = [asyncio.create_task(way) for way in (self._forth(), self._back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._server[1].close()

    async def _forth(self) -> None:
        while data := await self._client[0].read(_CHUNK):
            await self._proxy.may_pass(data)
            cut = self._proxy.due_cut(data)
            if cut == "before":
                return
            self._ends_at_answer = cut == "after"
            self._server[1].write(data)
            await self._server[1].drain()

    async def _back(self) -> None:
        while data := await self._server[0].read(_CHUNK):
            await self._proxy.may_pass(data)
            if self._ends_at_answer:
                return
            self._client[1].write(data)
            await self._client[1].drain()


class Proxies:
    """The thread in which proxies live."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")
        self._all: list[CutProxy] = []

    def before(self, server_port: int) -> CutProxy:
        """Put a proxy before a server."""
        proxy = CutProxy(server_port, self._loop)
        self._in_loop(proxy.listen())
        self._all.append(proxy)
        return proxy

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        for proxy in self._all:
            self._in_loop(proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@contextmanager
def proxies() -> Iterator[Proxies]:
    """Run proxies until the block ends."""
    running = Proxies()
    running.start()
    try:
        yield running
    finally:
        running.end()
