"""The file of a ledger deleted, moved, replaced, cut short or kept from growing while an exporter uses it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.exposed import Exposed, told
from tests.e2e.ledgers import HOUR, lived_through, somebody_at, two_targets
from tests.e2e.processes import EXPORTER, Program
from tests.e2e.simulation import Simulation

pytestmark = pytest.mark.e2e


@pytest.fixture
def simulator(simulate: Simulate) -> Simulation:
    return simulate(workspaces=["0", "7"], jobs_per_day=4000)


@pytest.fixture
def exporter(tmp_path: Path, simulator: Simulation) -> Exporter:
    return two_targets(tmp_path / "exporter", simulator)


@contextmanager
def counting(exporter: Exporter, simulator: Simulation) -> Iterator[tuple[Program, Exposed]]:
    """Run an exporter that has counted something; give what it shows."""
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        simulator.advance(HOUR)
        exposed = exporter.scrape_after_polls(2)
        assert told(exposed, workspace="7")["ended"]
        yield program, exposed


def assert_nothing_is_counted(
    exporter: Exporter, simulator: Simulation, program: Program, before: Exposed, because: str
) -> None:
    """Every poll must fail with this message, and what happens meanwhile must not be shown."""
    simulator.advance(HOUR)
    failed = exporter.scrape_until_failed("ledger", times=4)
    assert failed.by("octopus_up", "workspace") == {("0",): 0, ("7",): 0}
    assert told(failed) == told(before)
    for target in exporter.targets():
        assert target["error"]["reason"] == "ledger"
        assert target["error"]["message"] == f"ledger {exporter.ledger}: {because}"
    assert exporter.page("-/healthy").status == 200
    program.must_run()
    assert "Traceback" not in program.errors


DELETED = (
    "deleted or moved while in use, so nothing is recorded any more: "
    "put the file back, or restart to begin anew"
)
REPLACED = (
    "replaced by another file while in use, so nothing is recorded any more: "
    "put the old file back, or restart to use the new one"
)


def test_a_ledger_that_was_deleted_is_noticed(exporter: Exporter, simulator: Simulation) -> None:
    with counting(exporter, simulator) as (program, before):
        exporter.lose_ledger()
        assert_nothing_is_counted(exporter, simulator, program, before, DELETED)
        assert not exporter.ledger.exists()
        assert program.stop()[0] == 0
    # A lost ledger begins anew, and brings no spike.
    with exporter.ready():
        simulator.advance(HOUR)
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)


def test_a_second_exporter_on_the_path_is_the_only_one_that_counts(
    tmp_path: Path, exporter: Exporter, simulator: Simulation
) -> None:
    second = two_targets(tmp_path / "second", simulator)
    second.change(ledger={"url": f"sqlite:///{exporter.ledger}"})
    with counting(exporter, simulator) as (program, before):
        exporter.lose_ledger()
        with second.ready() as other:
            second.scrape_until_polled()
            assert_nothing_is_counted(exporter, simulator, program, before, REPLACED)
            # The end of the first one must not take the write-ahead log of the second one with it.
            beside = {file: file.stat().st_ino for file in exporter.folder.glob("ledger.db*")}
            assert len(beside) == 3
            assert program.stop()[0] == 0
            assert {file: file.stat().st_ino for file in exporter.folder.glob("ledger.db*")} == beside
            simulator.advance(HOUR)
            counted = second.scrape_after_polls(2)
            assert_agreement(second, counted, simulator)
            other.kill()
        with second.ready():
            again = second.scrape_after_polls(2)
            assert told(again) == told(counted)
            assert_agreement(second, again, simulator)


def test_a_ledger_that_was_replaced_by_a_copy_is_noticed(exporter: Exporter, simulator: Simulation) -> None:
    with counting(exporter, simulator) as (program, before):
        copy = exporter.folder / "copy.db"
        with somebody_at(exporter.ledger) as db:
            db.execute("VACUUM INTO ?", (str(copy),))
        copy.replace(exporter.ledger)
        assert_nothing_is_counted(exporter, simulator, program, before, REPLACED)


@pytest.mark.parametrize("what", ["the file", "the folder"])
def test_a_ledger_that_was_moved_goes_on_once_it_is_back(
    tmp_path: Path, simulator: Simulation, what: str
) -> None:
    exporter = two_targets(tmp_path / "exporter", simulator)
    folder = tmp_path / "ledgers"
    folder.mkdir()
    exporter.change(ledger={"url": f"sqlite:///{folder / 'ledger.db'}"})
    moved, away = (
        (folder / "ledger.db", folder / "away") if what == "the file" else (folder, tmp_path / "away")
    )
    with counting(exporter, simulator) as (program, before):
        moved.rename(away)
        simulator.advance(HOUR)
        failed = exporter.scrape_until_failed("ledger", times=4)
        assert told(failed) == told(before)
        away.rename(moved)
        exporter.scrape_until("octopus_up", 1, workspace="0")
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
        program.kill()
    with exporter.ready():
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_log_that_was_deleted_costs_nothing_that_was_recorded(
    exporter: Exporter, simulator: Simulation, suffix: str, number: signal.Signals
) -> None:
    with counting(exporter, simulator) as (program, before):
        exporter.ledger.with_name(f"ledger.db{suffix}").unlink()
        name = {"-wal": "write-ahead log", "-shm": "index of the write-ahead log"}[suffix]
        because = f"its {name} was deleted while in use, so nothing is recorded any more: restart"
        assert_nothing_is_counted(exporter, simulator, program, before, because)
        program.stop(number)
    with exporter.ready():
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
        assert exposed.total("octopus_ledger_full_syncs_total", reason="first") == 0


def test_a_ledger_that_was_cut_short_is_noticed(exporter: Exporter, simulator: Simulation) -> None:
    with counting(exporter, simulator) as (program, before):
        with somebody_at(exporter.ledger) as db:
            db.execute("PRAGMA wal_checkpoint(FULL)")
        exporter.scrape_after_polls(1)
        os.truncate(exporter.ledger, 4096)
        simulator.advance(HOUR)
        failed = exporter.scrape_until_failed("ledger", times=4)
        assert failed.by("octopus_up", "workspace") == {("0",): 0, ("7",): 0}
        assert told(failed) == told(before)
        (message, _) = (target["error"]["message"] for target in exporter.targets())
        assert message.startswith(f"ledger {exporter.ledger}: cut short while in use: damaged: ")
        program.must_run()
    assert "Traceback" not in program.errors


def test_a_ledger_that_somebody_compacts_is_none_that_was_cut_short(
    exporter: Exporter, simulator: Simulation
) -> None:
    with counting(exporter, simulator) as (program, _):
        with somebody_at(exporter.ledger) as db:
            db.execute("CREATE TABLE ballast AS SELECT zeroblob(4000000) AS b")
            db.execute("PRAGMA wal_checkpoint(FULL)")
            exporter.scrape_after_polls(1)
            before = exporter.ledger.stat().st_size
            db.execute("DROP TABLE ballast")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(FULL)")
            assert exporter.ledger.stat().st_size < before
        simulator.advance(HOUR)
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
        # A poll may have failed for want of the lock, which the other program has while it compacts.
        assert "cut short" not in program.errors
        program.must_run()


def test_a_file_that_must_not_grow_fails_polls_until_it_may(
    exporter: Exporter, simulator: Simulation
) -> None:
    """The limit on the size of files makes writes fail in the midst, as a quota does."""
    with counting(exporter, simulator) as (program, before):
        small = max(program.err.stat().st_size + 8192, 32_768)
        set_largest_file(program, small)
        simulator.advance(HOUR)
        failed = exporter.scrape_until_failed("ledger", times=4)
        assert told(failed) == told(before)
        (message, *_) = (target["error"]["message"] for target in exporter.targets() if target["error"])
        assert message.startswith(f"ledger {exporter.ledger}: disk I/O error")
        set_largest_file(program, resource.RLIM_INFINITY)
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
        program.kill()
    with exporter.ready():
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
    assert "Traceback" not in program.errors


def set_largest_file(program: Program, size: int) -> None:
    _, hard = resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_fails_polls_until_there_is_room(
    tmp_path: Path, exporter: Exporter, simulator: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    exporter.change(ledger={"url": f"sqlite:///{disk / 'ledger.db'}"})
    with_small_disk = (
        "unshare",
        "-rm",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m disk {disk} && exec "$@"',
        "-",
    )
    if subprocess.run((*with_small_disk, "true"), capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    monkeypatch.setattr("tests.e2e.exporting.EXPORTER", (*with_small_disk, *EXPORTER))
    with counting(exporter, simulator) as (program, before):
        ballast = Path(f"/proc/{program.process.pid}/root{disk}/ballast")
        fill(ballast)
        simulator.advance(HOUR)
        failed = exporter.scrape_until_failed("ledger", times=4)
        assert told(failed) == told(before)
        (message, *_) = (target["error"]["message"] for target in exporter.targets() if target["error"])
        assert message == f"ledger {disk / 'ledger.db'}: database or disk is full"
        ballast.unlink()
        assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
    assert "Traceback" not in program.errors


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"\0" * 1024)
        except OSError:
            return


def test_what_left_the_configuration_long_ago_is_forgotten(exporter: Exporter, simulator: Simulation) -> None:
    lived_through(exporter, simulator, hours=1)
    with somebody_at(exporter.ledger) as db:
        db.execute(
            """
            UPDATE targets SET committed_ms = committed_ms - :days, watermark_ms = watermark_ms - :days
            WHERE workspace = '7'
            """,
            {"days": 61 * 86_400_000},
        )
    (section,) = exporter.config["projects"]
    section["workspaces"] = ["0"]  # type: ignore[index]  # it is a mapping
    with exporter.ready() as program:
        simulator.advance(HOUR)
        assert_agreement(exporter, exporter.scrape_after_polls(3), simulator)
        with somebody_at(exporter.ledger) as db:
            assert db.execute("SELECT workspace FROM targets").fetchall() == [("0",)]
            (jobs,) = db.execute(
                "SELECT count(*) FROM jobs WHERE target NOT IN (SELECT id FROM targets)"
            ).fetchone()
            assert jobs == 0
        program.wait_for_line("targets forgotten")
    assert program.errors.count("targets forgotten") == 1
    assert "perception/7" in program.errors
