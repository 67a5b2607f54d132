"""Clients that break off or talk nonsense, a hundred of each: the log stays as it is, others are served."""

from __future__ import annotations

import resource
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.certificates import Authority
from tests.e2e.exporting import Exporter
from tests.e2e.processes import Program
from tests.e2e.secured import MUTUAL, Secured

pytestmark = pytest.mark.e2e

TIMES = 100
HOST = b"Host: exporter\r\n"
REQUESTS = {
    "a scrape": b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n",
    "a selection": b"GET /metrics?name[]=octopus_up HTTP/1.1\r\n" + HOST + b"\r\n",
    "the status page": b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "the status": b"GET /api/v1/status HTTP/1.1\r\n" + HOST + b"\r\n",
    "a file": b"GET /static/status.js HTTP/1.1\r\n" + HOST + b"\r\n",
    "half a request": b"GET /metrics HTTP/1.1\r\nHos",
    "many requests at once": (b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n") * 50,
    "half a body": b"POST /-/reload HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n" + b"x" * 1000,
    "half a chunk": b"POST /-/reload HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "a body that is no chunk": b"POST /-/reload HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
    "a body that is no gzip": b"POST /-/reload HTTP/1.1\r\n"
    + HOST
    + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "a body that has to be asked for": b"POST /-/reload HTTP/1.1\r\n"
    + HOST
    + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    "another protocol": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\nabc",
    "a line that is too long": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a header that is too long": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 10_000 + b"\r\n\r\n",
    "headers without end": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 10_000,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no HTTP": bytes(range(256)) * 10,
}


def reset(client: socket.socket) -> None:
    """End a connection at once, what was not yet read or sent included."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def read_a_little(client: socket.socket) -> None:
    client.settimeout(0.05)
    with suppress(OSError):
        client.recv(100)
    reset(client)


def half_close(client: socket.socket) -> None:
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        client.settimeout(0.05)
        client.recv(100)
    client.close()


Running = tuple[Exporter, Program]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One exporter for all faults; its API does not answer, which it says at the start."""
    exporter = Exporter(tmp_path_factory.mktemp("plain"), "http://127.0.0.1:9")
    yield from running(exporter)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The same behind TLS, with client certificates that are verified."""
    yield from running(Secured(tmp_path_factory.mktemp("secured"), "http://127.0.0.1:9", MUTUAL))


def running(exporter: Exporter) -> Iterator[Running]:
    exporter.change(ledger={"url": "sqlite://"}, poll={"interval": "1h"})
    with exporter.running() as program:
        program.wait_for_line("poll failed")
        yield exporter, program


@contextmanager
def no_line(exporter: Exporter, program: Program) -> Iterator[None]:
    """Hold that the log does not grow, and that others are answered."""
    before = program.errors
    yield
    assert exporter.page("metrics").status == 200
    assert program.errors.removeprefix(before) == ""


@pytest.mark.parametrize("leave", [reset, read_a_little, half_close])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_client_that_breaks_off_leaves_no_line(
    plain: Running, request_: bytes, leave: Callable[[socket.socket], None]
) -> None:
    exporter, program = plain
    with no_line(exporter, program):
        for _ in range(TIMES if leave is reset else 3):
            with socket.create_connection(("127.0.0.1", exporter.port)) as client:
                with suppress(OSError):
                    client.sendall(request_)
                leave(client)


@pytest.mark.parametrize("leave", [reset, read_a_little, half_close])
@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bytes(100), REQUESTS["a scrape"]]
)
def test_a_handshake_that_breaks_off_leaves_no_line(
    secured: Running, said: bytes, leave: Callable[[socket.socket], None]
) -> None:
    exporter, program = secured
    with no_line(exporter, program):
        for _ in range(TIMES if leave is reset else 3):
            with socket.create_connection(("127.0.0.1", exporter.port)) as client:
                with suppress(OSError):
                    client.sendall(said)
                leave(client)


def nonsense_in_the_middle(client: ssl.SSLSocket) -> None:
    """Send what is no TLS, on a connection that is."""
    raw = socket.socket(fileno=client.detach())
    raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
    read_a_little(raw)


@pytest.mark.parametrize("leave", [reset, read_a_little, nonsense_in_the_middle])
@pytest.mark.parametrize("said", [b"", REQUESTS["a scrape"], REQUESTS["half a body"]])
def test_a_tls_connection_that_breaks_off_leaves_no_line(
    secured: Running, said: bytes, leave: Callable[[ssl.SSLSocket], None]
) -> None:
    exporter, program = secured
    assert isinstance(exporter, Secured)
    with no_line(exporter, program):
        for _ in range(30 if leave is reset else 3):
            raw = socket.create_connection(("127.0.0.1", exporter.port))
            client = exporter.tls.wrap_socket(raw, server_hostname="localhost")
            client.sendall(said)
            leave(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_is_refused_leaves_no_line(secured: Running, version: ssl.TLSVersion) -> None:
    exporter, program = secured
    assert isinstance(exporter, Secured)
    strangers = Authority(exporter.folder, "strangers")
    contexts = [
        exporter.authority.client(),  # shows none
        exporter.authority.client(strangers.issue("stranger", "prometheus.example")),
        exporter.authority.client(exporter.authority.issue("other", "other.example")),
        strangers.client(),  # does not trust the exporter
    ]
    with no_line(exporter, program):
        for context in contexts * 5:
            context.minimum_version = context.maximum_version = version
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", exporter.port)) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as client,
            ):
                client.sendall(REQUESTS["a scrape"])
                client.recv(100)


def test_a_process_without_descriptors_says_so_once_and_goes_on(plain: Running) -> None:
    exporter, program = plain
    before, pid = program.errors, program.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        with socket.create_connection(("127.0.0.1", exporter.port)) as client:
            client.settimeout(3.5)  # it tries again every second
            with pytest.raises(TimeoutError):
                client.recv(1)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert exporter.page("metrics").status == 200
    program.wait_for_line("connections are accepted again")
    lines = program.errors.removeprefix(before).splitlines()
    assert [line.split("msg=")[1].split(" error=")[0] for line in lines] == [
        '"connections cannot be accepted"',
        '"connections are accepted again"',
    ]
