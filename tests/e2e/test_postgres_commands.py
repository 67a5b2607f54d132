"""The commands on a PostgreSQL ledger: migrate there and back, once, audit and jobs, beside an exporter."""

from __future__ import annotations

import csv
import io
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from exporter.ledger.connection import connect
from tests.e2e.agreement import assert_agreement, assert_failures_kept
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, run_once
from tests.e2e.ledgers import HOUR, two_targets
from tests.e2e.processes import EXPORTER, run, started
from tests.e2e.simulation import Simulation
from tests.e2e.waiting import until
from tests.postgres import PASSWORD, PostgresDatabase

pytestmark = pytest.mark.e2e


def live(exporter: Exporter, simulator: Simulation) -> None:
    """Let it count for an hour, and be stopped."""
    with exporter.ready() as program:
        simulator.advance(HOUR)
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
        assert_failures_kept(exporter, simulator)
        assert exposed.total("octopus_ledger_full_syncs_total", reason="first") in (0, 2)
        assert program.stop()[0] == 0


def test_counts_go_on_exactly_in_postgresql_and_back(
    tmp_path: Path, simulate: Simulate, database: PostgresDatabase
) -> None:
    simulator = simulate(workspaces=["0", "7"], jobs_per_day=4000)
    exporter = two_targets(tmp_path / "exporter", simulator)
    live(exporter, simulator)
    first = exporter.config["ledger"]
    ways = (
        {"url": database.url},
        {"url": f"sqlite:///{tmp_path}/back.db"},
    )
    for ledger in ways:
        simulator.advance(HOUR)  # what ends while no exporter runs is counted by the next one
        done = run(
            ("migrate", "--from", "${OLD}", "--to", "${NEW}"),
            tmp_path,
            OLD=exporter.config["ledger"]["url"],  # type: ignore[call-overload]
            NEW=ledger["url"],
        )
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        exporter.config["ledger"] = dict(ledger)
        live(exporter, simulator)
    assert exporter.config["ledger"] != first


def test_the_commands_beside_an_exporter(
    tmp_path: Path, simulate: Simulate, database: PostgresDatabase
) -> None:
    """What reads works, by a role that may read only; what would write is refused. Then once counts on."""
    simulator = simulate(jobs=300, jobs_per_day=20_000)
    exporter, reader = (Exporter(tmp_path / name, simulator.url) for name in ("exporter", "reader"))
    exporter.config["ledger"] = {"url": database.url}
    reader.config["ledger"] = {"url": reading(database)}
    try:
        with exporter.ready() as program:
            simulator.advance(HOUR)
            exporter.scrape_after_polls(2)
            assert_audit_agrees(reader)
            assert_failures_are_listed(reader, exporter)
            for command in (
                ("migrate", "--from", database.url, "--to", f"sqlite:///{tmp_path}/new.db"),
                ("once", "--config", str(exporter.file)),
            ):
                assert_refused(run(command, tmp_path))
            assert exporter.scrape().total("octopus_exporter_leases_lost_total") == 0
            assert program.stop()[0] == 0
        assert not (tmp_path / "new.db").exists()
        simulator.advance(HOUR)
        done = run(("audit", "--config", reader.write()), tmp_path, COLUMNS="200")
        assert done.returncode == 1
        assert run_once(exporter).total("octopus_jobs_completed_total") > 0
        assert database.sql("SELECT count(*) FROM leases WHERE holder <> ''") == "0"
        assert_audit_agrees(reader)
        with exporter.ready():
            assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
    finally:
        database.sql("DROP OWNED BY reader; DROP ROLE reader")


def reading(database: PostgresDatabase) -> str:
    """Make a role that may read the ledger, and give its URL."""
    database.sql(
        "CREATE ROLE reader LOGIN PASSWORD 'r'; ALTER DEFAULT PRIVILEGES FOR ROLE octopus IN SCHEMA public"
        " GRANT SELECT ON TABLES TO reader"
    )
    return database.url.replace(f"octopus:{PASSWORD}", "reader:r")


def assert_audit_agrees(reader: Exporter) -> None:
    done = run(("audit", "--config", reader.write()), reader.folder, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    assert "FINISHED" in done.stdout


def assert_failures_are_listed(reader: Exporter, exporter: Exporter) -> None:
    failed = exporter.page("api/v1/failures?limit=10000").json["failures"]
    listed = run(("jobs", "--config", reader.write(), "--failed", "--format", "csv"), reader.folder)
    assert listed.returncode == 0, listed.stderr
    rows = list(csv.DictReader(io.StringIO(listed.stdout, newline="")))
    assert failed
    assert {row["job_id"] for row in rows} >= {one["job_id"] for one in failed}


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 3, done.stderr
    assert "in use by the exporter " in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr


def test_a_migration_that_is_asked_to_stop_leaves_nothing(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "old.db")) as db:
        db.execute("INSERT INTO targets (id, project, project_id, workspace) VALUES (1, 'p', 'i', '0')")
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
            " INSERT INTO jobs (target, id, job_type, status, created_ms, updated_ms, listed, in_flight)"
            " SELECT 1, i, 'T', 'FINISHED', i, i, 1, 0 FROM n"
        )
    command = ("migrate", "--from", f"sqlite:///{tmp_path}/old.db", "--to", f"sqlite:///{tmp_path}/new.db")
    with started((*EXPORTER, *command), tmp_path, name="migrate") as program:
        until(lambda: list(tmp_path.glob(".new.db.*.unfinished")), "the beginning of the copy")
        assert program.stop()[0] == 1
    assert program.errors == "octopus-exporter: asked to stop\n"
    assert sorted(path.name for path in tmp_path.glob("*new.db*")) == []
    assert list(tmp_path.glob(".*")) == []
