"""A rolling upgrade to a version with another schema: the new replica takes over, and no run is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exporter.ledger.postgres.schema import VERSION
from tests.e2e.agreement import assert_agreement, assert_failures_kept
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.ledgers import HOUR, two_targets
from tests.e2e.processes import Program, run, started
from tests.e2e.waiting import until
from tests.postgres import PostgresDatabase

pytestmark = pytest.mark.e2e

NEWER = f"written by a newer version (schema {VERSION + 1}; this one knows {VERSION})"
# The exporter itself as the next version will be: with one more migration.
NEXT_VERSION = """
from exporter.ledger.postgres import schema

schema.MIGRATIONS += (("ALTER TABLE targets ADD COLUMN of_the_next_version BIGINT NOT NULL DEFAULT 7",),)
schema.VERSION = len(schema.MIGRATIONS)
from exporter.cli import main
main()
"""


def test_a_new_version_changes_the_tables_and_takes_over(
    tmp_path: Path, simulate: Simulate, database: PostgresDatabase
) -> None:
    simulator = simulate(workspaces=["0", "7"], jobs_per_day=4000)
    old, new = (two_targets(tmp_path / name, simulator) for name in ("old", "new"))
    for exporter in (old, new):
        exporter.config["ledger"] = {"url": database.url, "lease": "3s"}
    with old.ready() as program:
        simulator.advance(HOUR)
        assert_agreement(old, old.scrape_after_polls(2), simulator)
        with started(
            (sys.executable, "-c", NEXT_VERSION, "run", "--config", new.write()), new.folder
        ) as next_one:
            new.wait_until_ready(next_one)
            simulator.advance(HOUR)  # while neither may record
            until(lambda: held(new) == 2, "the new version holds all targets")
            exposed = new.scrape_after_polls(2)
            assert_agreement(new, exposed, simulator)
            assert_failures_kept(new, simulator)
            # It goes on from the ledger of the old version.
            assert exposed.total("octopus_ledger_full_syncs_total", reason="first") == 0
            assert_old_version_has_stood_back(old, program)
            refused = run(("run", "--config", old.file), old.folder)
            assert refused.returncode == 3
            assert NEWER in refused.stderr
            assert next_one.stop()[0] == 0
    assert database.sql("SELECT DISTINCT of_the_next_version FROM targets") == "7"


def held(exporter: Exporter) -> float:
    return exporter.scrape().total("octopus_exporter_lease_held")


def assert_old_version_has_stood_back(old: Exporter, program: Program) -> None:
    assert held(old) == 0
    assert NEWER in program.errors
    assert program.stop()[0] == 0
