from __future__ import annotations

import asyncio
import gzip
import json
import logging
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter import __version__
from exporter.config import ListenAddress
from exporter.errors import ConfigError, StartError
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.web.app import create_app
from exporter.web.server import Server, bind_all
from exporter.web.status.model import ProcessInfo
from tests.e2e.processes import free_port
from tests.fake_runs import FakeRuns, a_run
from tests.snapshots import SNAPSHOT, TOTALS, named
from tests.status_states import ABOUT

Client = TestClient[web.Request, web.Application]
NOW_MS = 1_700_000_061_000
STATIC = ["/static/status.css", "/static/status.js", "/static/icon.svg"]
PAGES = ["/metrics", "/", "/api/v1/status", "/api/v1/failures", "/-/healthy", "/-/ready", *STATIC]


class FakeExporter(FakeRuns):
    """A program that serves what it is told to."""

    def __init__(self) -> None:
        super().__init__({SNAPSHOT.target.key: [a_run(42, msg_code="E1", msg_error="<b>out of memory</b>")]})
        self.lifecycle_enabled = False
        self.shown = [SNAPSHOT]
        self.listing: dict[TargetKey, Progress] = {}
        self.missing: list[str] = []
        self.problems: list[str] = []
        self.reloads = 0

    def snapshots(self) -> list[TargetSnapshot]:
        return self.shown

    def ready(self) -> list[str]:
        return self.missing

    def progress(self) -> dict[TargetKey, Progress]:
        return self.listing

    async def process_info(self) -> ProcessInfo:
        return ABOUT

    async def reload(self) -> None:
        self.reloads += 1
        if self.problems:
            raise ConfigError(self.problems)


@pytest.fixture
def exporter() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
def publisher() -> Publisher:
    publisher = Publisher(Instruments(CollectorRegistry(), __version__))
    publisher.publish(SNAPSHOT)
    publisher.render_now()
    return publisher


@pytest.fixture
def app(exporter: FakeExporter, publisher: Publisher) -> web.Application:
    return create_app(exporter, publisher, clock=lambda: NOW_MS / 1000)


@pytest.fixture
async def client(
    aiohttp_client: Callable[[web.Application], Awaitable[Client]], app: web.Application
) -> Client:
    return await aiohttp_client(app)


async def test_metrics_are_text_unless_asked_otherwise(client: Client) -> None:
    answer = await client.get("/metrics")
    text = await answer.text()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert 'octopus_up{project="perception",workspace="0"} 1\n' in text
    assert "\nprocess_resident_memory_bytes " in text
    assert "# EOF" not in text


async def test_openmetrics_is_one_whole_exposition(client: Client) -> None:
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name for family in parse_openmetrics(await answer.text())}
    assert {"octopus_jobs_created", "octopus_exporter_build_info", "process_cpu_seconds"} <= families


async def test_a_version_we_do_not_speak_is_not_echoed(client: Client) -> None:
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=9.0.0"})
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_several_accept_headers_count_as_one(client: Client) -> None:
    headers = [("Accept", "text/plain;q=0.1"), ("Accept", "application/openmetrics-text")]
    answer = await client.get("/metrics", headers=headers)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
async def test_metrics_are_compressed_on_request(client: Client, accept: str) -> None:
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    async with ClientSession(auto_decompress=False) as session:
        answer = await session.get(client.make_url("/metrics"), headers=headers)
        body = await answer.read()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b'octopus_up{project="perception",workspace="0"} 1\n' in gzip.decompress(body)
    assert b"\nprocess_resident_memory_bytes " in gzip.decompress(body)


async def test_metrics_are_plain_where_gzip_is_refused(client: Client) -> None:
    answer = await client.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in answer.headers
    assert (await answer.read()).startswith(b"# HELP")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_curl_reads_what_is_compressed(client: Client) -> None:
    command = ["curl", "--silent", "--show-error", "--compressed", str(client.make_url("/metrics"))]
    curl = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    assert b"\nprocess_resident_memory_bytes " in curl.stdout
    assert curl.stderr == b""


async def test_megabytes_are_served(client: Client, publisher: Publisher) -> None:
    for number in range(400):
        publisher.publish(named(f"project-{number}"))
    publisher.render_now()
    answer = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
    body = await answer.read()
    assert len(body) > 2**20
    assert b'octopus_up{project="project-399",workspace="0"} 1\n' in body


@pytest.mark.parametrize("path", PAGES)
async def test_head_has_the_headers_and_no_body(client: Client, path: str) -> None:
    answer = await client.head(path)
    assert answer.status == 200
    if path != "/api/v1/failures":  # which is streamed: its length is not known before
        assert int(answer.headers["Content-Length"]) > 0
    assert await answer.read() == b""


@pytest.mark.parametrize("path", [*PAGES, "/nowhere"])
async def test_every_answer_is_hardened_and_names_no_server(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "Server" not in answer.headers


async def test_healthy_whatever_the_api_does(client: Client, exporter: FakeExporter) -> None:
    exporter.missing = ["perception/0: not polled yet"]
    answer = await client.get("/-/healthy")
    assert (answer.status, await answer.text()) == (200, "octopus-exporter is healthy.\n")


async def test_ready_when_nothing_is_missing(client: Client, exporter: FakeExporter) -> None:
    exporter.missing = ["perception/0: not polled yet", "perception/1: not polled yet"]
    answer = await client.get("/-/ready")
    assert answer.status == 503
    assert (await answer.text()).splitlines() == ["octopus-exporter is not ready:", *exporter.missing]
    exporter.missing = []
    answer = await client.get("/-/ready")
    assert (answer.status, await answer.text()) == (200, "octopus-exporter is ready.\n")


async def test_reload_is_refused_unless_it_is_enabled(client: Client, exporter: FakeExporter) -> None:
    answer = await client.post("/-/reload")
    assert answer.status == 403
    assert "web.enable_lifecycle" in await answer.text()
    assert exporter.reloads == 0


async def test_reload_reads_the_configuration_again(client: Client, exporter: FakeExporter) -> None:
    exporter.lifecycle_enabled = True
    answer = await client.post("/-/reload")
    assert answer.status == 200
    assert exporter.reloads == 1


async def test_a_reload_that_fails_says_every_problem(client: Client, exporter: FakeExporter) -> None:
    exporter.lifecycle_enabled = True
    exporter.problems = ["poll.interval: 0s, expected at least 1s", "projects: missing"]
    answer = await client.post("/-/reload")
    assert answer.status == 422
    assert (await answer.text()).splitlines() == exporter.problems


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/-/reload", "POST"), ("POST", "/metrics", "GET, HEAD"), ("DELETE", "/", "GET, HEAD")],
)
async def test_another_method_is_refused(client: Client, method: str, path: str, allowed: str) -> None:
    answer = await client.request(method, path)
    assert answer.status == 405
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/nowhere", "/-/nowhere", "/static/", "/static/" + "a" * 3000])
async def test_what_is_not_there_is_answered_in_a_line(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == 404
    assert (await answer.text()).count("\n") == 1


async def test_only_static_files_are_served(app: web.Application) -> None:
    server = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]))
    await server.start()
    for path in (b"/static/../app.py", b"/static/%2e%2e/app.py", b"/static/nothing.css"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
        writer.write(b"GET " + path + b" HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert b" 404 " in answer.splitlines()[0]
    await server.close()


async def test_status_as_json(client: Client) -> None:
    answer = await client.get("/api/v1/status")
    status = json.loads(await answer.read())
    target = status["targets"][0]
    assert answer.content_type == "application/json"
    assert (status["version"], status["ready"], status["now_ms"]) == (__version__, True, NOW_MS)
    assert (target["project"], target["workspace"], target["up"]) == ("perception", "0", True)
    assert target["baseline_ms"] == TOTALS.baseline_ms
    assert target["jobs"]["FRAME_EXTRACT"]["RUNNING"] == 3
    assert target["recent_failures"][0]["msg_code"] == "E1"
    assert target["failures"]["auth"] == 0


async def fetch(url: str) -> int:
    async with ClientSession() as session, session.get(url) as answer:
        return answer.status


async def test_every_address_is_served(app: web.Application) -> None:
    server = Server(app, bind_all([ListenAddress("127.0.0.1", 0), ListenAddress("localhost", 0)]))
    await server.start()
    try:
        assert len(set(server.ports)) == 2
        for port in server.ports:
            assert await fetch(f"http://localhost:{port}/-/healthy") == 200
    finally:
        await server.close()


async def test_no_host_is_every_interface_on_one_port(app: web.Application) -> None:
    server = Server(app, bind_all([ListenAddress(None, 0)]))
    await server.start()
    try:
        assert await fetch(f"http://127.0.0.1:{server.ports[0]}/-/healthy") == 200
        if socket.has_dualstack_ipv6():
            assert await fetch(f"http://[::1]:{server.ports[0]}/-/healthy") == 200
    finally:
        await server.close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
async def test_an_ipv6_address_is_served(app: web.Application) -> None:
    server = Server(app, bind_all([ListenAddress("::1", 0)]))
    await server.start()
    try:
        assert await fetch(f"http://[::1]:{server.ports[0]}/-/healthy") == 200
        with pytest.raises(StartError) as refusal:
            bind_all([ListenAddress("::1", server.ports[0])])
        assert str(refusal.value) == f"cannot listen on [::1]:{server.ports[0]}: address already in use"
    finally:
        await server.close()


def test_a_taken_port_is_said_in_a_line_and_nothing_else_is_kept() -> None:
    with socket.create_server(("", 0)) as taken:
        port, other = taken.getsockname()[1], free_port()
        with pytest.raises(StartError) as refusal:
            bind_all([ListenAddress("127.0.0.1", other), ListenAddress(None, port)])
    assert str(refusal.value) == f"cannot listen on :{port}: address already in use"
    socket.create_server(("127.0.0.1", other)).close()


def test_an_unknown_host_is_said_in_a_line() -> None:
    with pytest.raises(StartError, match=r"^cannot listen on nowhere\.invalid:80: [a-z ]+$"):
        bind_all([ListenAddress("nowhere.invalid", 80)])


def test_an_address_that_is_not_ours_is_said_in_a_line() -> None:
    with pytest.raises(
        StartError, match=r"^cannot listen on 192\.0\.2\.1:80: cannot assign requested address$"
    ):
        bind_all([ListenAddress("192.0.2.1", 80)])


async def test_closing_does_not_wait_for_idle_clients(
    app: web.Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.web.server._SHUTDOWN_SECONDS", 300.0)
    server = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
    writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"healthy.\n")
    await asyncio.wait_for(server.close(), 60)
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"secret" * 2000 + b"\r\n\r\n",
        b"GET /metrics?name[]=\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_nonsense_gets_a_400_and_leaves_no_line(
    app: web.Application, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    server = Server(app, bind_all([ListenAddress("127.0.0.1", 0)]))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
    writer.write(request_)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await server.close()
    assert head.startswith(b"HTTP/1.0 400 ")
    assert b"Server: octopus-exporter\r\n" in head + b"\r\n"
    assert body == b"this is no request in HTTP/1.1\n"
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_what_fails_in_here_leaves_a_line(
    exporter: FakeExporter, client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "ready", lambda: 1 / 0)
    assert (await client.get("/-/ready")).status == 500
    assert "ZeroDivisionError" in caplog.text
