"""Single runs, as a user gets at them: `jobs` beside a running exporter, and /api/v1/failures under load."""

from __future__ import annotations

import csv
import io
import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from exporter.ledger.ended import MOST_KEPT
from tests.e2e.agreement import assert_failures_kept, failed_runs
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import EXPORTER, Program, plain_environment, run
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

BUSY = {"jobs": 300, "jobs_per_day": 20_000}


@pytest.fixture
def exporter(tmp_path: Path, simulate: Simulate) -> Exporter:
    """An exporter whose ledger has some hours of life in it."""
    simulator = simulate(**BUSY)
    exporter = Exporter(tmp_path / "exporter", simulator.url)
    with exporter.ready():
        for _ in range(3):
            simulator.advance(3600)
            exporter.scrape_after_polls(2)
        assert_failures_kept(exporter, simulator)
    return exporter


def jobs(exporter: Exporter, *options: str, exit_code: int = 0) -> tuple[str, str]:
    done = run(("jobs", "--config", exporter.write(), *options), exporter.folder, COLUMNS="80")
    assert done.returncode == exit_code, done.stderr
    return done.stdout, done.stderr


def as_csv(exporter: Exporter, *options: str) -> list[dict[str, str]]:
    text, errors = jobs(exporter, "--format", "csv", *options)
    assert errors == ""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_jobs_lists_the_same_with_an_exporter_and_without(exporter: Exporter) -> None:
    with exporter.ready():
        exporter.scrape_after_polls(1)
        beside, served = as_csv(exporter, "--failed"), failed_runs(exporter)
        table, _ = jobs(exporter, "--failed")
        everything = json.loads(jobs(exporter, "--format", "json")[0])
        listed = exporter.targets()[0]["listed"]
    kept = {(run["job_id"], str(run["number"])) for run in served}
    assert kept
    assert kept <= {(run["job_id"], run["number"]) for run in beside}
    messages = {(run["job_id"], str(run["number"])): run["msg_error"] for run in served}
    for one in beside:
        assert one["msg_error"] == messages.get((one["job_id"], one["number"]), "")
    after = as_csv(exporter, "--failed")
    assert [(one["job_id"], one["number"], one["msg_error"]) for one in after] == [
        (one["job_id"], one["number"], one["msg_error"]) for one in beside
    ]
    assert len({run["job_id"] for run in everything}) >= listed
    assert served[0]["job_id"] in table
    assert all(len(line) <= 80 for line in table.splitlines())
    assert "\u2026" not in table


def test_jobs_says_in_a_line_what_it_cannot_do(exporter: Exporter) -> None:
    """Usage ends it with 2, a ledger that cannot be read with 3."""
    _, said = jobs(exporter, "--project", "nobody", exit_code=2)
    assert said == "octopus-exporter: --project: 'nobody' is not configured, expected one of perception\n"
    _, said = jobs(exporter, "--since", "soon", "--id", "x", exit_code=2)
    assert len(said.splitlines()) == 2
    exporter.lose_ledger()
    _, said = jobs(exporter, exit_code=3)
    assert said.startswith(f"octopus-exporter: ledger {exporter.ledger}: there is none yet")
    assert not exporter.ledger.exists()
    exporter.change(ledger={"url": "sqlite://"})
    _, said = jobs(exporter, exit_code=3)
    assert said == "octopus-exporter: ledger sqlite://: not a file, so another process cannot read it\n"


def test_jobs_ends_quietly_where_its_reader_has_seen_enough(exporter: Exporter) -> None:
    fill(exporter)
    command = (*EXPORTER, "jobs", "--config", str(exporter.write()), "--format", "json")
    with subprocess.Popen(
        command, env=plain_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(2) == b"[\n"
        process.stdout.close()
        assert process.stderr.read() == b""


def fill(exporter: Exporter) -> None:
    """Let the ledger keep as many failed runs as it ever does, with long messages."""
    with closing(sqlite3.connect(exporter.ledger, isolation_level=None)) as db:
        db.execute("BEGIN")
        (now_ms,) = db.execute("SELECT committed_ms FROM targets").fetchone()
        row = "1, ?, 1, 'FRAME_EXTRACT', 'RUN_FAILED', '3001', ?, 'DPK1', '', 0, NULL, NULL, ?, NULL, NULL"
        db.execute("DELETE FROM failed_runs")
        db.executemany(
            f"INSERT INTO failed_runs VALUES ({row})",
            [(n, f"{n} " + "x" * 1_980, now_ms - n) for n in range(MOST_KEPT)],
        )
        db.execute("COMMIT")


@contextmanager
def slow_reader(exporter: Exporter) -> Iterator[socket.socket]:
    """Ask for all that is kept, and take nothing of it."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", exporter.port))
        client.sendall(b"GET /api/v1/failures?limit=10000 HTTP/1.1\r\nHost: exporter\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        yield client


def resident_mib(program: Program) -> float:
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def test_the_failures_are_served_two_at_a_time_while_polls_go_on(exporter: Exporter) -> None:
    fill(exporter)
    with exporter.ready() as program, ExitStack() as readers:
        exporter.scrape_after_polls(1)
        before = resident_mib(program)
        slow = [readers.enter_context(slow_reader(exporter)) for _ in range(2)]
        third = exporter.page("api/v1/failures")
        assert (third.status, third.headers["retry-after"]) == (503, "5")
        assert third.text == "failed runs are being read by 2 others: try again in a few seconds\n"
        assert exporter.page("api/v1/status").json["targets"][0]["recent_failures"][0]["job_id"] == "0"
        assert exporter.page("").status == 200
        exporter.scrape_after_polls(2)
        slow[0].close()
        until(lambda: exporter.page("api/v1/failures?limit=1").status == 200, "a place that was given back")
        whole = exporter.page("api/v1/failures?limit=10000").json
        assert [int(run["job_id"]) for run in whole["failures"]] == list(range(MOST_KEPT))
        assert len(as_csv(exporter, "--failed", "--msg-code", "3001")) == MOST_KEPT
        # Each of the three answers has 20 MB.
        assert resident_mib(program) - before < 25
        assert program.stop()[0] == 0
