"""Sockets that are opened by somebody else, as systemd does: the parent here does what systemd's would."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.exporting import Exporter
from tests.e2e.http import ask
from tests.e2e.processes import EXPORTER, Program, started
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

# Puts the sockets where sd_listen_fds(3) says, names itself, and becomes the exporter.
_LAUNCHER = """
import fcntl, os, sys
count = int(sys.argv[1])
spare = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[2 : 2 + count]]
for index, number in enumerate(spare):
    os.dup2(number, 3 + index)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES="one:two")
os.execv(sys.executable, sys.argv[2 + count :])
"""


@contextmanager
def activated(exporter: Exporter, sockets: list[socket.socket], *flags: str) -> Iterator[Program]:
    numbers = [str(each.fileno()) for each in sockets]
    launcher = [sys.executable, "-c", _LAUNCHER, str(len(numbers)), *numbers]
    command: list[str | Path] = [*launcher, *EXPORTER, "run", "--config", exporter.write(), *flags]
    fds = [each.fileno() for each in sockets]
    with started(command, exporter.folder, name="exporter", pass_fds=fds) as program:
        yield program


def healthy(host: str, listening: socket.socket) -> bool:
    return ask(f"http://{host}:{listening.getsockname()[1]}/-/healthy").status == 200


@pytest.fixture
def exporter(tmp_path: Path) -> Exporter:
    return Exporter(tmp_path, "http://127.0.0.1:9")


def test_every_socket_that_is_passed_is_served_and_no_other(exporter: Exporter) -> None:
    four = socket.create_server(("127.0.0.1", 0))
    six = socket.create_server(("::1", 0), family=socket.AF_INET6)
    with four, six, activated(exporter, [four, six], "--web.systemd-socket") as program:
        assert healthy("127.0.0.1", four)
        assert healthy("[::1]", six)
        assert exporter.try_page("-/healthy") is None
        for url in (f"http://127.0.0.1:{four.getsockname()[1]}/", f"http://[::1]:{six.getsockname()[1]}/"):
            program.wait_for_line(f"msg=listening url={url} metrics={url}metrics")


def test_who_connects_during_a_restart_waits_and_is_answered(exporter: Exporter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as kept:
        with activated(exporter, [kept], "--web.systemd-socket") as program:
            assert healthy("127.0.0.1", kept)
            assert program.stop()[0] == 0
        with socket.create_connection(kept.getsockname()) as waiting:
            waiting.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            with activated(exporter, [kept], "--web.systemd-socket"), waiting.makefile("rb") as answer:
                assert answer.readline() == b"HTTP/1.0 200 OK\r\n"


def test_a_unix_socket_is_served(exporter: Exporter) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(exporter.folder / "socket"))
        unix.listen()
        with activated(exporter, [unix], "--web.systemd-socket"), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(exporter.folder / "socket"))
            client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            with client.makefile("rb") as answer:
                assert answer.readline() == b"HTTP/1.0 200 OK\r\n"


def test_without_the_flag_the_addresses_are_served_and_the_socket_is_told_of(exporter: Exporter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed, activated(exporter, [passed]) as program:
        until(lambda: exporter.try_page("-/healthy"), f"an answer\n{program.errors}")
        program.wait_for_line("systemd has passed sockets; they are used with --web.systemd-socket")


def test_a_start_without_a_usable_socket_is_refused_in_a_line(exporter: Exporter) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        with activated(exporter, [deaf], "--web.systemd-socket") as program:
            assert program.wait() == 3
    with activated(exporter, [], "--web.systemd-socket") as program:
        assert program.wait() == 3
    assert [line for line in program.errors.splitlines() if line.startswith("octopus-exporter:")] == [
        "octopus-exporter: --web.systemd-socket: descriptor 3 (one) does not listen for connections",
        "octopus-exporter: --web.systemd-socket: systemd has passed no socket to this process",
    ]
