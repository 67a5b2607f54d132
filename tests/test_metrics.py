"""/metrics over real sockets."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.config import ListenAddress
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.exposition.render import Exposition, Format
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.web import metrics
from exporter.web.app import create_app
from exporter.web.metrics import ScrapeCache, ScrapeRequest
from exporter.web.server import Server, bind_all
from exporter.web.status.model import ProcessInfo
from tests.fake_runs import FakeRuns
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


class Idle(FakeRuns):
    """A program that has nothing to tell but its metrics."""

    lifecycle_enabled = False

    async def reload(self) -> None: ...

    async def process_info(self) -> ProcessInfo:
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
        async with asyncio.timeout(60):
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
def served() -> list[Exposition]:
    """The publications that were served completely."""
    return []


@pytest.fixture
def app(publisher: Publisher, served: list[Exposition]) -> web.Application:
    return create_app(Idle(), publisher, on_served=served.append)


@pytest.fixture
async def server(app: web.Application) -> AsyncIterator[Server]:
    server = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]))
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with connected(server.ports[0]) as client:
        yield client


async def test_prometheus_is_answered_on_one_connection(client: Client) -> None:
    for _ in range(3):
        client.send(PROMETHEUS)
        answer = await client.answer()
        assert answer.headers["Content-Type"] == Format.OPENMETRICS.value
        families = {family.name for family in parse_openmetrics(answer.text)}
        assert {"octopus_jobs_created", "octopus_exporter_build_info", "process_cpu_seconds"} <= families


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS, "application/openmetrics-text;version=2.0.0"])
@pytest.mark.parametrize("coding", ["gzip", "identity", "gzip;q=0"])
async def test_every_format_and_coding(client: Client, accept: str, coding: str) -> None:
    answer = await client.ask(f"Accept: {accept}", f"Accept-Encoding: {coding}")
    assert answer.status == 200
    assert answer.headers.get("Content-Encoding") == ("gzip" if coding == "gzip" else None)
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert 'octopus_up{project="perception",workspace="0"} 1\n' in answer.text
    assert "\nprocess_resident_memory_bytes " in answer.text
    assert answer.text.endswith("# EOF\n") == (accept == OPENMETRICS)


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


async def test_name_selects(client: Client) -> None:
    query = "name[]=octopus_up&name%5B%5D=process_open_fds"
    answer = await client.ask(f"Accept: {OPENMETRICS}", request=f"GET /metrics?{query} HTTP/1.1")
    found = {sample.name for family in parse_openmetrics(answer.text) for sample in family.samples}
    assert found == {"octopus_up", "process_open_fds"}
    assert answer.headers["Content-Type"] == Format.OPENMETRICS.value


async def test_a_selection_can_be_compressed_and_empty(client: Client) -> None:
    request = "GET /metrics?name[]=octopus_no_such HTTP/1.1"
    answer = await client.ask(f"Accept: {OPENMETRICS}", "Accept-Encoding: gzip", request=request)
    assert (answer.headers["Content-Encoding"], answer.text) == ("gzip", "# EOF\n")
    assert (await client.ask(request=request)).text == ""


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
    client: Client, monkeypatch: pytest.MonkeyPatch, coding: str
) -> None:
    monkeypatch.setattr(metrics, "_CHUNK_BYTES", 100)
    answer = await client.ask(f"Accept-Encoding: {coding}")
    assert answer.text.startswith("# HELP octopus_jobs ")
    assert "\nprocess_resident_memory_bytes " in answer.text


async def test_idle_scrapers_are_let_go_at_the_end(server: Server) -> None:
    async with connected(server.ports[0]) as client:
        await client.ask()
        port = server.ports[0]
        async with asyncio.timeout(60):
            await server.close()
            assert await client.reader.read() == b""
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_complete_answer_is_told_with_its_publication(
    client: Client, publisher: Publisher, served: list[Exposition]
) -> None:
    first = publisher.exposition
    await client.ask()
    publisher.publish(named("other"))
    publisher.render_now()
    await client.ask(f"Accept: {OPENMETRICS}", "Accept-Encoding: gzip")
    await client.ask(request="GET /-/healthy HTTP/1.1")
    assert served == [first, publisher.exposition]


@pytest.mark.parametrize("request_", ["HEAD /metrics HTTP/1.1", "GET /metrics?name[]=octopus_up HTTP/1.1"])
async def test_what_does_not_show_every_series_is_not_told(
    client: Client, served: list[Exposition], request_: str
) -> None:
    assert (await client.ask(request=request_)).status == 200
    await client.ask(request="GET /-/healthy HTTP/1.1")
    assert served == []


async def test_an_answer_that_was_not_taken_is_not_told(
    server: Server, client: Client, publisher: Publisher, served: list[Exposition]
) -> None:
    publish_megabytes(publisher)
    with await slow_reader(server) as leaving:
        assert await asyncio.get_running_loop().sock_recv(leaving, 100)
    assert (await client.ask("Accept-Encoding: identity")).status == 200
    assert served == [publisher.exposition]


def publish_megabytes(publisher: Publisher) -> None:
    """Publish more than the kernel takes for a client that reads nothing."""
    for number in range(900):
        publisher.publish(named(f"project-{number}"))
    assert len(publisher.render_now().text.plain) > 7_000_000


async def slow_reader(server: Server) -> socket.socket:
    """Ask for everything that is published, without reading what comes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", server.ports[0]))
    await loop.sock_sendall(client, PROMETHEUS.replace(b"gzip", b"identity"))
    return client


def test_the_process_is_read_a_few_times_a_second_at_most(publisher: Publisher) -> None:
    now = 0.0
    scrapes, wanted = ScrapeCache(publisher, timer=lambda: now), ScrapeRequest(Format.TEXT, gzip=True)
    first = scrapes.content(wanted, publisher.exposition)
    now = 0.2
    assert scrapes.content(wanted, publisher.exposition) is first
    now = 0.3
    assert scrapes.content(wanted, publisher.exposition) is not first


def test_an_older_publication_is_not_kept(publisher: Publisher) -> None:
    scrapes = ScrapeCache(publisher)
    for gzip_ in (True, False):
        scrapes.content(ScrapeRequest(Format.TEXT, gzip_), publisher.exposition)
    old = publisher.exposition
    publisher.publish(named("other"))
    publisher.render_now()
    scrapes.content(ScrapeRequest(Format.OPENMETRICS, gzip=True), publisher.exposition)
    assert gc.get_referrers(old) == []  # but for this function, which is none
