"""More clients than there is room for: those who say nothing make room for those who ask."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from exporter.config import ListenAddress
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.web import crowd, server
from exporter.web.app import SHORT_WAY, create_app
from exporter.web.crowd import Crowd
from exporter.web.server import bind_all, serve_on
from exporter.web.toolkit import WebConfiguration
from tests.certificates import Authority
from tests.test_metrics import Client, Idle, connected

HALF_A_REQUEST = b"GET /metrics HTTP/1.1\r\nHos"
Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
def app() -> web.Application:
    return create_app(Idle(), Publisher(Instruments(CollectorRegistry(), "1.2.3")))


@pytest.fixture(params=["the short way", "aiohttp"])
async def connect(app: web.Application, request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connect to a server that has room for three."""
    short_way = app[SHORT_WAY] if request.param == "the short way" else None
    running = await serve_on(
        app, bind_all([ListenAddress("127.0.0.1", 0)]), short_way=short_way, crowd=Crowd(3)
    )
    async with AsyncExitStack() as opened:
        yield lambda: opened.enter_async_context(connected(running.ports[0]))
    await running.close()


async def is_let_go(client: Client) -> bool:
    try:
        async with asyncio.timeout(10):
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


async def test_a_handshake_that_does_not_come_is_not_waited_for(
    app: web.Application, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "_HANDSHAKE_SECONDS", 0.1)
    Authority(tmp_path).issue("server", "localhost")
    file = tmp_path / "web.yml"
    file.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    context = WebConfiguration.load(file).ssl_context
    running = await serve_on(app, bind_all([ListenAddress("127.0.0.1", 0)]), context)
    async with connected(running.ports[0]) as client:
        client.send(b"\x16\x03\x01")
        assert await is_let_go(client)
    await running.close()


@pytest.mark.parametrize(
    ("files", "most"), [(100, 50), (1024, 512), (1_048_576, 512), (resource.RLIM_INFINITY, 512)]
)
def test_half_of_the_files_are_left_to_the_polls(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    monkeypatch.setattr(crowd, "getrlimit", lambda what: (files, files))
    assert crowd.room() == most
