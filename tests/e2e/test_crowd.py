"""A process with few files: clients who say nothing keep out neither scrapes nor polls."""

from __future__ import annotations

import resource
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import EXPORTER, started
from tests.e2e.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit is not installed"),
]


def test_half_requests_without_end_keep_nobody_out(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    command = ("prlimit", "--nofile=400:400", *EXPORTER, "run", "--config", exporter.write())
    with started(command, tmp_path) as program, ExitStack() as crowd:
        exporter.wait_until_ready(program)
        for _ in range(450):
            client = crowd.enter_context(socket.create_connection(("127.0.0.1", exporter.port)))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHos")
        exporter.scrape_after_polls(3)
        assert "Too many open files" not in program.errors


def test_all_files_that_are_allowed_are_taken(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path, "http://127.0.0.1:9")
    command = ("prlimit", "--nofile=200:", *EXPORTER, "run", "--config", exporter.write())
    with started(command, tmp_path) as program:
        until(lambda: exporter.try_page("metrics"), f"metrics\n{program.errors}")
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert exporter.scrape().value("process_max_fds") == most
