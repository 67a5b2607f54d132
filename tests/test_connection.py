"""Clients that cost too much: too many, silent ones, ones that do not read. And faults of our own."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from exporter.config import ListenAddress
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.web import connection, server
from exporter.web.app import create_app
from exporter.web.connection import Connection, ConnectionLimiter, InternalFaults, max_connections
from exporter.web.server import Server, bind_all
from exporter.web.toolkit import WebConfiguration
from tests.certificates import Authority
from tests.snapshots import SNAPSHOT
from tests.test_metrics import Client, Idle, connected, publish_megabytes, slow_reader

HALF_A_REQUEST = b"GET /metrics HTTP/1.1\r\nHos"
Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Instruments(CollectorRegistry(), "1.2.3"))


@pytest.fixture
def app(publisher: Publisher) -> web.Application:
    return create_app(Idle(), publisher)


@pytest.fixture
async def running(app: web.Application) -> AsyncIterator[Server]:
    """A server that has room for three."""
    running = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]), limiter=ConnectionLimiter(3))
    await running.start()
    yield running
    await running.close()


@pytest.fixture
async def connect(running: Server) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as opened:
        yield lambda: opened.enter_async_context(connected(running.ports[0]))


async def is_let_go(client: Client) -> bool:
    try:
        async with asyncio.timeout(60):
            return await client.reader.read(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("said", [b"", HALF_A_REQUEST])
async def test_who_is_silent_makes_room(connect: Connect, said: bytes) -> None:
    silent = []
    for _ in range(5):
        silent.append(await connect())
        silent[-1].send(said)
    assert await is_let_go(silent[0])
    assert await is_let_go(silent[1])
    assert (await (await connect()).ask()).status == 200
    assert await is_let_go(silent[2])
    assert not silent[3].reader.at_eof()


async def test_who_asks_stays(connect: Connect) -> None:
    scraper, silent = await connect(), await connect()
    for _ in range(5):
        assert (await scraper.ask()).status == 200
        await connect()
    assert await is_let_go(silent)
    assert (await scraper.ask()).status == 200


async def test_who_has_gone_takes_no_room(connect: Connect) -> None:
    first = await connect()
    for path in ("/metrics", "/-/healthy"):
        for _ in range(5):
            passing = await connect()
            request = f"GET {path} HTTP/1.1"
            assert (await passing.ask("Connection: close", request=request)).status == 200
            assert await is_let_go(passing)
    assert (await first.ask()).status == 200


@pytest.fixture
async def secure(app: web.Application, tmp_path: Path) -> AsyncIterator[Server]:
    """A server that speaks TLS and has room for three."""
    Authority(tmp_path).issue("server", "localhost")
    file = tmp_path / "web.yml"
    file.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    context = WebConfiguration(file).ssl_context
    running = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]), context, ConnectionLimiter(3))
    await running.start()
    yield running
    await running.close()


async def test_a_handshake_that_does_not_come_is_not_waited_for(
    secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HANDSHAKE_SECONDS", 0.1)
    async with connected(secure.ports[0]) as client:
        client.send(b"\x16\x03\x01")
        assert await is_let_go(client)


async def test_handshakes_that_do_not_come_make_room(secure: Server) -> None:
    async with AsyncExitStack() as opened:
        silent = [await opened.enter_async_context(connected(secure.ports[0])) for _ in range(5)]
        assert await is_let_go(silent[0])
        assert await is_let_go(silent[1])
        assert not silent[4].reader.at_eof()


async def test_an_answer_that_is_not_taken_is_given_up(
    running: Server, publisher: Publisher, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the publication it was made of, which is not to stay in memory for good."""
    monkeypatch.setattr(connection, "_STALL_SECONDS", 0.2)
    publish_megabytes(publisher)
    old = publisher.exposition
    with await slow_reader(running) as stalled:
        assert await asyncio.get_running_loop().sock_recv(stalled, 1)
        publisher.publish(SNAPSHOT)
        publisher.render_now()
        assert (await (await connect()).ask()).status == 200
        async with asyncio.timeout(60):
            while sys.getrefcount(old) > 2:  # this test's own and the argument
                await asyncio.sleep(0.05)


class Wire(asyncio.Transport):
    """A transport of which so much is unsent each time one looks."""

    def __init__(self, *unsent: int) -> None:
        super().__init__()
        self.unsent = list(unsent)
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.unsent.pop(0)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted.set()


async def test_an_answer_that_is_taken_slowly_is_not_given_up(
    app: web.Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_STALL_SECONDS", 0.01)
    wire = Wire(300, 200, 200, 100, 100, 100, 1)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    client = Connection(runner.server, ConnectionLimiter(1), InternalFaults())
    client.connection_made(wire)
    client.pause_writing()
    async with asyncio.timeout(60):
        await wire.aborted.wait()
    assert wire.unsent == [1]  # it has compared 300 with 200, 200 with 100, and 100 with 100
    client.connection_lost(None)
    await runner.cleanup()


async def test_requests_that_come_faster_than_answers_are_taken_do_not_pile_up(
    running: Server, publisher: Publisher
) -> None:
    publish_megabytes(publisher)
    requests, sent = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n" * 1000, 0
    with await slow_reader(running) as client:
        while sent < 50_000_000:
            try:
                async with asyncio.timeout(1):
                    await asyncio.get_running_loop().sock_sendall(client, requests)
            except TimeoutError:  # the kernel's buffers are full: the server reads no more
                break
            sent += len(requests)
    assert 0 < sent < 50_000_000


def test_a_fault_of_our_own_is_logged_once_an_hour() -> None:
    clock = [0.0]
    faults = InternalFaults(clock=lambda: clock[0])

    def fail(broken: Callable[[], object]) -> None:
        try:
            broken()
        except ArithmeticError as error:
            faults.log(error)

    with capture_logs() as logs:
        for clock[0] in (0.0, 1.0, 3599.0, 3600.0, 3601.0, 7200.0):
            fail(lambda: 1 / 0)
        fail(lambda: 2.0**10_000)
    assert [line["not_logged_since"] for line in logs] == [0, 2, 1, 0]


@pytest.mark.parametrize(
    ("files", "most"), [(100, 50), (1024, 512), (1_048_576, 512), (resource.RLIM_INFINITY, 512)]
)
def test_half_of_the_files_are_left_to_the_polls(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(connection, "getrlimit", lambda what: (files, files))
    assert max_connections() == most
