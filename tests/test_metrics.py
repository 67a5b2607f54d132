"""/metrics over real sockets: the way through aiohttp and the short way past it give the same answers."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.config import ListenAddress, Web
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.exposition.render import Format
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.web import metrics
from exporter.web.app import SHORT_WAY, create_app
from exporter.web.metrics import Scrapes, Wanted
from exporter.web.scraping import understood
from exporter.web.server import Server, bind_all, serve_on
from exporter.web.serving import serving
from exporter.web.status import About
from exporter.web.toolkit import WebConfiguration
from tests.snapshots import SNAPSHOT, named

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
HOST = "Host: exporter:10877"
# Word for word what Prometheus 2.42 sends.
PROMETHEUS = (
    f"GET /metrics HTTP/1.1\r\n{HOST}\r\nUser-Agent: Prometheus/2.42.0\r\n"
    "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
    "Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
).encode()


class Idle:
    """A program that has nothing to tell but its metrics."""

    lifecycle_enabled = False

    async def reload(self) -> None: ...

    async def about(self) -> About:
        raise AssertionError("not asked for here")

    def snapshots(self) -> Iterable[TargetSnapshot]:
        return ()

    def progress(self) -> dict[TargetKey, Progress]:
        return {}

    def ready(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        zipped = self.headers.get("Content-Encoding") == "gzip"
        return (gzip.decompress(self.body) if zipped else self.body).decode()

    @property
    def fixed(self) -> dict[str, str]:
        """The headers that do not change from answer to answer."""
        return {name: value for name, value in self.headers.items() if name != "Date"}


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *lines: str, request: str = "GET /metrics HTTP/1.1") -> Answer:
        self.send("\r\n".join((request, HOST, *lines, "", "")).encode())
        return await self.answer(has_body=not request.startswith("HEAD"))

    def send(self, request: bytes) -> None:
        self.writer.write(request)

    async def answer(self, *, has_body: bool = True) -> Answer:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            size = int(headers["Content-Length"]) if has_body else 0
            return Answer(int(head[0].split()[1]), headers, await self.reader.readexactly(size))


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    yield Client(reader, writer)
    writer.close()


@pytest.fixture
def publisher() -> Publisher:
    publisher = Publisher(Instruments(CollectorRegistry(), "1.2.3"))
    publisher.publish(SNAPSHOT)
    publisher.render_now()
    return publisher


@pytest.fixture
def through_aiohttp() -> list[str]:
    """The requests that came to the application."""
    return []


@pytest.fixture
def app(publisher: Publisher, through_aiohttp: list[str]) -> web.Application:
    app = create_app(Idle(), publisher)

    @web.middleware
    async def note(request: web.Request, handler: Callable) -> web.StreamResponse:
        through_aiohttp.append(request.path)
        return await handler(request)

    app.middlewares.append(note)
    return app


@pytest.fixture
async def server(app: web.Application) -> AsyncIterator[Server]:
    server = await serve_on(app, bind_all([ListenAddress("127.0.0.1", 0)]), short_way=app[SHORT_WAY])
    yield server
    await server.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with connected(server.ports[0]) as client:
        yield client


@pytest.fixture
async def slow(app: web.Application, publisher: Publisher) -> AsyncIterator[Client]:
    """A client of a server that has no short way."""
    server = await serve_on(create_app(Idle(), publisher), bind_all([ListenAddress("127.0.0.1", 0)]))
    async with connected(server.ports[0]) as client:
        yield client
    await server.close()


async def test_prometheus_takes_the_short_way(client: Client, through_aiohttp: list[str]) -> None:
    for _ in range(3):
        client.send(PROMETHEUS)
        answer = await client.answer()
        assert answer.headers["Content-Type"] == Format.OPENMETRICS.value
        families = {family.name for family in parse_openmetrics(answer.text)}
        assert {"octopus_jobs_created", "octopus_exporter_build_info", "process_cpu_seconds"} <= families
    assert through_aiohttp == []


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS, "application/openmetrics-text;version=2.0.0"])
@pytest.mark.parametrize("coding", ["gzip", "identity", "gzip;q=0"])
async def test_both_ways_give_the_same_answer(
    client: Client, slow: Client, accept: str, coding: str, through_aiohttp: list[str]
) -> None:
    asked = f"Accept: {accept}", f"Accept-Encoding: {coding}"
    short, long = await client.ask(*asked), await slow.ask(*asked)
    assert through_aiohttp == []
    assert short.status == long.status == 200
    drop = {"Content-Length"}  # the process's own metrics are of different length now and then
    assert {k: v for k, v in short.fixed.items() if k not in drop} == {
        k: v for k, v in long.fixed.items() if k not in drop
    }
    published = short.text.split("# HELP process_")[0]
    assert published == long.text.split("# HELP process_")[0]
    assert 'octopus_up{project="perception",workspace="0"} 1\n' in published
    assert "\nprocess_resident_memory_bytes " in short.text
    assert short.text.endswith("# EOF\n") == (accept == OPENMETRICS)


async def test_nobody_is_to_store_an_answer_or_asks_for_a_part_of_it(client: Client) -> None:
    answer = await client.ask('If-None-Match: "x"', "Range: bytes=0-9", "If-Modified-Since: " + "x" * 20)
    assert answer.status == 200
    assert "ETag" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.text.startswith("# HELP octopus_jobs ")


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_head_has_the_headers_of_get_and_no_body(client: Client, accept: str, coding: str) -> None:
    asked = f"Accept: {accept}", f"Accept-Encoding: {coding}"
    head = await client.ask(*asked, request="HEAD /metrics HTTP/1.1")
    get = await client.ask(*asked)  # the next answer on the connection begins where the head ended
    assert head.fixed == get.fixed
    assert int(head.headers["Content-Length"]) == len(get.body) > 1000


async def test_name_selects(client: Client, through_aiohttp: list[str]) -> None:
    query = "name[]=octopus_up&name%5B%5D=process_open_fds"
    answer = await client.ask(f"Accept: {OPENMETRICS}", request=f"GET /metrics?{query} HTTP/1.1")
    found = {sample.name for family in parse_openmetrics(answer.text) for sample in family.samples}
    assert found == {"octopus_up", "process_open_fds"}
    assert answer.headers["Content-Type"] == Format.OPENMETRICS.value
    assert through_aiohttp == ["/metrics"]


async def test_a_selection_can_be_compressed_and_empty(client: Client) -> None:
    request = "GET /metrics?name[]=octopus_no_such HTTP/1.1"
    answer = await client.ask(f"Accept: {OPENMETRICS}", "Accept-Encoding: gzip", request=request)
    assert (answer.headers["Content-Encoding"], answer.text) == ("gzip", "# EOF\n")
    assert (await client.ask(request=request)).text == ""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /metrics?x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.0\r\nHost: a\r\n\r\n",
        b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eDp5\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\n folded\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept : text/plain\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: a\x00b\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: a\nb\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\nUser-Agent: b\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\nHost: a\n\n",
        b"",
    ],
)
def test_what_is_no_plain_scrape_is_left_to_aiohttp(request_: bytes) -> None:
    assert understood(request_) is None


_fields = st.builds(
    lambda name, colon, value: name + colon + value,
    st.sampled_from(["Accept", "accept", "Accept-Encoding", "User-Agent", "user-agent"]),
    st.sampled_from([":", ": ", ":\t"]),
    st.sampled_from(["", "gzip;q=0", "gzip", OPENMETRICS, "text/plain;q=0.5, */*;q=0.1\t"])
    | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=3),
)
_requests = st.lists(_fields, max_size=4).map(
    lambda fields: "\r\n".join(["GET /metrics HTTP/1.1", HOST, *fields, "", ""]).encode("latin-1")
)


@given(_requests)
def test_what_is_a_plain_scrape_means_the_same_to_aiohttp(request_: bytes) -> None:
    if (wanted := understood(request_)) is None:
        return
    loop = asyncio.new_event_loop()
    try:
        parsed, upgraded, rest = HttpRequestParser(BaseProtocol(loop), loop, 2**16).feed_data(request_)
    finally:
        loop.close()
    ((message, _),) = parsed
    accept, encoding = (",".join(message.headers.getall(name, [])) for name in ("Accept", "Accept-Encoding"))
    assert (message.method, message.path, message.should_close) == ("GET", "/metrics", False)
    assert (upgraded, rest) == (False, b"")
    assert Wanted.of(accept, encoding) == wanted


def test_header_lines_of_one_name_count_as_one() -> None:
    lines = b"accept: text/plain;q=0.1\r\nACCEPT:application/openmetrics-text\r\nhost: a\r\n\r\n"
    assert understood(b"GET /metrics HTTP/1.1\r\n" + lines) == Wanted(Format.OPENMETRICS, gzip=False)


async def test_another_request_takes_the_connection_over_for_good(
    client: Client, through_aiohttp: list[str]
) -> None:
    await client.ask()
    healthy = await client.ask(request="GET /-/healthy HTTP/1.1")
    assert healthy.text == "octopus-exporter is healthy.\n"
    assert (await client.ask()).status == 200
    assert through_aiohttp == ["/-/healthy", "/metrics"]


async def test_a_request_in_pieces_and_requests_in_one_are_answered(client: Client) -> None:
    client.send(PROMETHEUS[:40])
    await asyncio.sleep(0.05)
    client.send(PROMETHEUS[40:] + PROMETHEUS)
    assert (await client.answer()).status == (await client.answer()).status == 200


async def test_a_new_publication_is_in_the_next_answer(client: Client, publisher: Publisher) -> None:
    await client.ask()
    publisher.publish(named("other"))
    publisher.render_now()
    assert 'octopus_up{project="other",workspace="0"} 1\n' in (await client.ask()).text


@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_what_is_large_is_sent_in_chunks(
    client: Client, monkeypatch: pytest.MonkeyPatch, through_aiohttp: list[str], coding: str
) -> None:
    monkeypatch.setattr(metrics, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(metrics, "_CHUNK_BYTES", 100)
    answer = await client.ask(f"Accept-Encoding: {coding}")
    assert through_aiohttp == ["/metrics"]
    assert answer.text.startswith("# HELP octopus_jobs ")
    assert "\nprocess_resident_memory_bytes " in answer.text


async def test_who_does_not_read_is_not_read_from(server: Server, publisher: Publisher) -> None:
    """Else the answers nobody takes would pile up."""
    for number in range(250):
        publisher.publish(named(f"project-{number}"))
    publisher.render_now()
    request = f"GET /metrics HTTP/1.1\r\n{HOST}\r\n\r\n".encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.ports[0]))
        async with asyncio.timeout(10):
            # The kernel takes some megabytes before it is the server's to keep them.
            while not (waiting := unsent(server)):
                client.send(request)
                await asyncio.sleep(0.05)
        for _ in range(5):
            client.send(request)
            await asyncio.sleep(0.05)
        assert 0 < unsent(server) <= waiting


def unsent(server: Server) -> int:
    """How much the server keeps for clients who do not take it."""
    assert server.short_way is not None
    return sum(connection._transport.get_write_buffer_size() for connection in server.short_way._open)


async def test_idle_scrapers_are_let_go_at_the_end(app: web.Application) -> None:
    server = await serve_on(app, bind_all([ListenAddress("127.0.0.1", 0)]), short_way=app[SHORT_WAY])
    async with connected(server.ports[0]) as client:
        await client.ask()
        async with asyncio.timeout(5):
            await server.close()
            assert await client.reader.read() == b""
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", server.ports[0])


async def test_with_a_web_configuration_nothing_goes_past_its_gate(
    app: web.Application, tmp_path: Path
) -> None:
    file = tmp_path / "web.yml"
    hashed = "$2b$05$Q7qNrDXFXb0iBYcOGV6HCuhmYI1yFyRJvH4PBOhUVVhBVRPxVdVoa"
    file.write_text(f"basic_auth_users:\n  alice: {hashed}\n", encoding="utf-8")
    settings = Web(listen=["127.0.0.1:0"])
    async with serving(app, settings, WebConfiguration.load(file)) as (port,), connected(port) as client:
        client.send(PROMETHEUS)
        assert (await client.answer()).status == 401


def test_the_process_is_read_a_few_times_a_second_at_most(publisher: Publisher) -> None:
    now = 0.0
    scrapes, wanted = Scrapes(publisher, timer=lambda: now), Wanted(Format.TEXT, gzip=True)
    first = scrapes.whole(wanted)
    now = 0.2
    assert scrapes.whole(wanted) is first
    now = 0.3
    assert scrapes.whole(wanted) is not first
