"""What keeps the exporter from starting: one readable line each, the right exit code, and nothing touched."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.processes import run

pytestmark = pytest.mark.e2e


@pytest.fixture
def exporter(tmp_path: Path) -> Exporter:
    """An exporter whose API is not there: it is not asked before it has started."""
    return Exporter(tmp_path / "exporter", "http://127.0.0.1:9")


def refusal(exporter: Exporter, exit_code: int) -> str:
    """Run the exporter, which must end with this code; give what it says, without a traceback."""
    done = run(("run", "--config", exporter.write()), exporter.folder)
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_that_is_taken(exporter: Exporter) -> None:
    with socket.create_server(("127.0.0.1", exporter.port)):
        said = refusal(exporter, 3)
    assert said == (
        f"octopus-exporter: cannot listen on 127.0.0.1:{exporter.port}: address already in use:"
        " choose another address with web.listen or --web.listen-address\n"
    )


def test_a_configuration_with_problems(exporter: Exporter) -> None:
    exporter.change(poll={"interval": "fast", "page_size": 1000}, web={"listen": ["nowhere"]})
    lines = refusal(exporter, 2).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"octopus-exporter: {exporter.file}:") for line in lines)
    paths = ("poll.interval: found fast", "poll.page_size: found 1000", "web.listen[0]: found nowhere")
    assert all(path in line for path, line in zip(paths, lines, strict=True)), lines


def test_a_configuration_that_is_not_there(exporter: Exporter) -> None:
    missing = exporter.folder / "missing.yaml"
    done = run(("run", "--config", missing), exporter.folder)
    assert done.returncode == 2
    assert done.stderr == (
        f"octopus-exporter: {missing}: cannot be read (No such file or directory), expected a YAML file\n"
    )


def test_no_configuration_at_all(exporter: Exporter) -> None:
    done = run(("run",), exporter.folder)
    assert done.returncode == 2
    assert "--config" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_flag(exporter: Exporter) -> None:
    done = run(("run", "--confg", "x"), exporter.folder)
    assert done.returncode == 2
    assert "--confg" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_that_another_program_has_locked(exporter: Exporter, ledger: bytes) -> None:
    with closing(sqlite3.connect(exporter.ledger, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        said = refusal(exporter, 3)
        assert said == f"octopus-exporter: ledger {exporter.ledger}: locked by another process\n"
        assert exporter.ledger.read_bytes() == ledger


def test_a_ledger_that_another_exporter_uses(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    first, second = (Exporter(tmp_path / name, simulator.url) for name in ("first", "second"))
    second.change(ledger={"url": f"sqlite:///{first.ledger}"})
    with first.ready():
        said = refusal(second, 3)
        assert said == f"octopus-exporter: ledger {first.ledger}: in use by another process\n"
        assert first.scrape_after_polls(1).value("octopus_up") == 1


@pytest.fixture
def ledger(exporter: Exporter, simulate: Simulate) -> bytes:
    """What a ledger holds that an exporter has left behind."""
    simulator = simulate()
    earlier = Exporter(exporter.folder, simulator.url)
    with earlier.ready() as program:
        earlier.scrape_until_polled()
        assert program.stop()[0] == 0
    return exporter.ledger.read_bytes()


def test_a_damaged_ledger(exporter: Exporter, ledger: bytes) -> None:
    damaged = ledger[:6000] + b"\xff" * 3000 + ledger[9000:]
    assert_refused_and_untouched(exporter, damaged, "damaged")


def test_a_ledger_cut_short(exporter: Exporter, ledger: bytes) -> None:
    assert_refused_and_untouched(exporter, ledger[: len(ledger) // 2], "damaged")


def test_a_ledger_that_is_no_database(exporter: Exporter) -> None:
    assert_refused_and_untouched(exporter, b"notes of a colleague\n" * 500, "not an SQLite database")


def test_a_database_of_another_program(exporter: Exporter) -> None:
    with closing(sqlite3.connect(exporter.ledger)) as db:
        db.execute("CREATE TABLE notes (text)")
        db.commit()
    assert_refused_and_untouched(exporter, exporter.ledger.read_bytes(), "not a ledger of octopus-exporter")


def test_a_ledger_of_a_newer_version(exporter: Exporter, ledger: bytes) -> None:
    with closing(sqlite3.connect(exporter.ledger)) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert_refused_and_untouched(
        exporter, exporter.ledger.read_bytes(), "written by a newer version (schema 99"
    )


def assert_refused_and_untouched(exporter: Exporter, content: bytes, because: str) -> None:
    exporter.lose_ledger()
    exporter.ledger.write_bytes(content)
    said = refusal(exporter, 3)
    assert said.startswith(f"octopus-exporter: ledger {exporter.ledger}: ")
    assert because in said
    assert said.count("\n") == 1
    assert exporter.ledger.read_bytes() == content


def test_a_ledger_that_is_a_directory(exporter: Exporter) -> None:
    exporter.ledger.mkdir()
    said = refusal(exporter, 3)
    assert said == f"octopus-exporter: ledger {exporter.ledger}: Is a directory\n"
    assert list(exporter.ledger.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "because"),
    [("/proc/ledger.db", "No such file or directory"), ("/sys/ledger.db", "")],
)
def test_a_ledger_where_nothing_can_be_written(exporter: Exporter, path: str, because: str) -> None:
    """Not even root can make a file there."""
    exporter.change(ledger={"url": f"sqlite:///{path}"})
    said = refusal(exporter, 3)
    assert said.startswith(f"octopus-exporter: ledger {path}: {because}")
    assert said.count("\n") == 1
