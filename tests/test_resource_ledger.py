"""What jobs ask for, in the ledger: labels, holds, sums of any size, upgrades, and what is forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter.ledger.postgres import schema
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS
from exporter.model import JOB_TYPES, SeriesKey, Totals
from exporter.sync.change_reader import PollRules
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import FAILED, Scene
from tests.ledgers import BackEnd, SharedDatabase, SqliteFile
from tests.postgres import PostgresDatabase

SMALL, LARGE, GPU, ODD = "2Core_4GiB", "8Core_32GiB", "P100_1Gpu_2.1Core_4.1GiB", "2Corex_4GiB"
RUNS = {"started_ms": 1_200_000, "updated_ms": 1_200_000}


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    yield scene
    await scene.ledger.close()


def in_flight(totals: Totals) -> dict[tuple[str, str], int]:
    return {key: jobs for key, jobs in totals.resource_jobs.items() if jobs}


def starts(totals: Totals) -> dict[str, int]:
    return {spec: sum(value.counts) for spec, value in totals.resource_submitting.items()}


def own_key(spec: str) -> SeriesKey:
    return SeriesKey("resource_submitting", "", resource_spec=spec)


async def test_the_histogram_of_a_spec_is_shown_at_0_as_soon_as_a_job_waits_with_it(scene: Scene) -> None:
    await scene.poll()
    scene.api.put(a_job(1, "QUEUING", resource_spec=SMALL))
    totals = await scene.poll()
    assert (starts(totals), own_key(SMALL) in totals.held) == ({SMALL: 0}, True)
    assert totals.resource_jobs[SMALL, "RUNNING"] == 0
    scene.api.put(a_job(1, "RUNNING", resource_spec=SMALL, **RUNS))
    # It was released by the poll, as after a scrape and the hold. So the start shows at once.
    assert starts(await scene.poll()) == {SMALL: 1}


async def test_the_histogram_of_a_spec_that_was_never_seen_to_wait_is_held_at_0(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1, resource_spec=SMALL)
    totals = await scene.poll()
    assert (starts(totals), own_key(SMALL) in totals.held) == ({SMALL: 0}, True)
    await scene.ledger.close()
    await scene.open()
    restored = await scene.restored()
    assert restored is not None
    assert (starts(restored), own_key(SMALL) in restored.held) == ({SMALL: 0}, True)
    assert starts(await scene.poll()) == {SMALL: 1}


async def test_specs_beyond_the_most_share_a_label_over_restarts(scene: Scene) -> None:
    async def polled(most: int) -> dict[tuple[str, str], int]:
        await scene.ledger.close()
        await scene.open()
        rules: PollRules = poll_rules(max_resource_specs=most)
        return in_flight(await scene.poll(rules=rules))

    scene.api.put(*(a_job(n, resource_spec=spec) for n, spec in enumerate((SMALL, LARGE, GPU, ""), 1)))
    first = {(SMALL, "QUEUING"): 1, (LARGE, "QUEUING"): 1, ("other", "QUEUING"): 1, ("", "QUEUING"): 1}
    assert await polled(2) == first
    assert await polled(1) == first
    # With a higher maximum the jobs that shared a label get their own, though nothing has changed of them.
    del first["other", "QUEUING"]
    assert await polled(3) == first | {(GPU, "QUEUING"): 1}
    scene.api.put(a_job(5, resource_spec=ODD), a_job(6, resource_spec="other"))
    assert await polled(3) == first | {(GPU, "QUEUING"): 1, ("other", "QUEUING"): 2}
    assert await polled(4) == first | {(GPU, "QUEUING"): 1, (ODD, "QUEUING"): 1, ("other", "QUEUING"): 1}


async def test_a_job_whose_row_could_not_be_read_gets_its_own_label_later(scene: Scene) -> None:
    """By then another job has taken the last label, with the same spec."""
    scene.api.put(*(a_job(n, resource_spec=spec) for n, spec in enumerate((SMALL, LARGE, LARGE), 1)))
    lumped = in_flight(await scene.poll(rules=poll_rules(max_resource_specs=1)))
    assert lumped == {(SMALL, "QUEUING"): 1, ("other", "QUEUING"): 2}
    scene.api.odd = frozenset({3})
    rules = poll_rules(max_resource_specs=2)
    one_each = {(SMALL, "QUEUING"): 1, (LARGE, "QUEUING"): 1}
    assert in_flight(await scene.poll(rules=rules)) == one_each | {("other", "QUEUING"): 1}
    scene.api.odd = frozenset()
    assert in_flight(await scene.poll(rules=rules)) == one_each | {(LARGE, "QUEUING"): 2}


async def test_sums_of_more_than_64_bits_are_exact(scene: Scene) -> None:
    await scene.poll()
    for job_id in range(1, 4):
        scene.run_job(job_id, running_ms=999_999_999_999, resource_spec="999999.999Core_1GiB")
        await scene.poll()
    totals = await scene.poll()
    assert totals.core_seconds[FAILED].value == 3 * 999_999_999_999 * 999_999_999 > 2**64
    assert totals.memory_seconds[FAILED].value == 3 * 999_999_999_999 * 1000


async def test_types_out_of_scope_count_no_jobs_in_flight(scene: Scene) -> None:
    kinds = JOB_TYPES[:2]
    scene.api.put(*(a_job(n, job_type=kind, resource_spec=SMALL) for n, kind in enumerate(kinds, 1)))
    assert in_flight(await scene.poll()) == {(SMALL, "QUEUING"): 2}
    assert in_flight(await scene.poll(a_target(job_types=kinds[:1]))) == {(SMALL, "QUEUING"): 1}
    assert in_flight(await scene.poll(a_target(job_types=kinds))) == {(SMALL, "QUEUING"): 2}
    del scene.api.jobs[1]
    assert in_flight(await scene.poll()) == {(SMALL, "QUEUING"): 1}


async def test_a_target_that_is_forgotten_leaves_nothing_of_its_resources(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1, resource_spec=GPU)
    scene.api.put(a_job(2, "RUNNING", resource_spec=GPU, **RUNS))
    await scene.poll()
    tables = ("resource_jobs", "resource_seconds", "histograms")
    assert all(scene.rows(table) for table in tables)
    assert await scene.ledger.forget(a_target().key, lambda: True)
    assert [scene.rows(table) for table in tables] == [0, 0, 0]


# -- the version before ------------------------------------------------------------------------------------

BEFORE = next(n for n, version in enumerate(MIGRATIONS) if any("resource_jobs" in one for one in version))


def old_rows() -> list[str]:
    """
    Give statements that make a target of the version before, with four jobs in flight and a histogram.

    Shape: job 1 runs for the first time; 2 runs again; 3 waits to run again, and its row has the start of
    the run before; 4 runs again, and was not listed for a while.
    """
    waited = '{"bounds": [1.0, 10.0], "counts": [1, 0, 0], "sum_ms": 700, "exemplars": [null, null, null]}'
    jobs = """
        INSERT INTO jobs (target, id, job_type, status, created_ms, updated_ms, started_ms, ended_ms,
            counted_start_ms, listed, in_flight, runs)
        VALUES (1, {}, 'FRAME_EXTRACT', '{}', 500000, 700000, {}, {}, {}, {}, {}, {})
    """
    return [
        """
        INSERT INTO targets (project, project_id, workspace, path, commits, committed_ms, baselines,
            shown_types, watermark_ms, full_sync_ms)
        VALUES ('perception', 'p1', '0', 'system-jobs', 7, 990000, '{"*": 100000}', '{}', 990000, 990000)
        """,
        "INSERT INTO listing VALUES (1, 'FRAME_EXTRACT', 'RUNNING', 1, 2)",
        "INSERT INTO listing VALUES (1, 'FRAME_EXTRACT', 'QUEUING', 1, 1)",
        f"""
        INSERT INTO histograms (target, family, job_type, status, released, value)
        VALUES (1, 'submitting', 'FRAME_EXTRACT', '', 1, '{waited}')
        """,
        jobs.format(1, "RUNNING", 600_000, "NULL", 600_000, 1, 1, 0),
        jobs.format(2, "RUNNING", 690_000, 650_000, 690_000, 1, 1, 1),
        jobs.format(3, "QUEUING", 600_000, 650_000, 600_000, 1, 1, 1),
        jobs.format(4, "RUNNING", 690_000, 650_000, 690_000, -1, 0, 1),
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
def old_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> BackEnd:
    """A ledger of the version before, in both back ends."""
    if request.param == "sqlite":
        file = tmp_path / "ledger.db"
        made = [statement for version in MIGRATIONS[:BEFORE] for statement in version]
        pragmas = [f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {BEFORE}"]
        with closing(sqlite3.connect(file)) as db:
            db.executescript(";".join((*made, *pragmas, *old_rows())))
        return SqliteFile(file)
    database: PostgresDatabase = request.getfixturevalue("database")
    before = next(n for n, one in enumerate(schema.MIGRATIONS) if any("resource_jobs" in two for two in one))
    made = [statement for version in schema.MIGRATIONS[:before] for statement in version]
    shared = SharedDatabase(database.url)
    shared.rows(";".join((*made, f"UPDATE schema_version SET version = {before}", *old_rows())))
    return shared


async def test_with_an_upgrade_the_new_families_begin_at_0_and_nothing_counts_twice(
    old_ledger: BackEnd,
) -> None:
    scene = Scene(old_ledger)
    await scene.open()
    restored = await scene.restored()
    assert restored is not None
    assert restored.resource_jobs == {}
    was = {"created_ms": 500_000, "updated_ms": 700_000, "resource_spec": SMALL}
    scene.api.put(
        a_job(1, "RUNNING", started_ms=600_000, **was),
        a_job(2, "RUNNING", started_ms=690_000, **was),
        a_job(3, "QUEUING", started_ms=600_000, **was),
        a_job(4, "RUNNING", started_ms=690_000, **was),
    )
    totals = await scene.poll()
    assert in_flight(totals) == {(SMALL, "RUNNING"): 3, (SMALL, "QUEUING"): 1}
    assert (starts(totals), totals.reruns["FRAME_EXTRACT"].value) == ({SMALL: 0}, 0)
    assert totals.submitting["FRAME_EXTRACT"].sum_ms == 700
    ended = was | {"updated_ms": 1_100_000, "ended_ms": 1_100_000}
    scene.api.put(
        a_job(1, "RUN_FAILED", started_ms=600_000, **ended),
        a_job(2, "RUN_FAILED", started_ms=690_000, **ended),
        a_job(3, "RUNNING", started_ms=1_050_000, **(was | {"updated_ms": 1_050_000})),
        a_job(4, "RUN_FAILED", started_ms=690_000, **ended),
    )
    await scene.poll()
    totals = await scene.poll()
    # Only that of job 3 began since the upgrade.
    assert (starts(totals), totals.reruns["FRAME_EXTRACT"].value) == ({SMALL: 1}, 1)
    assert totals.core_seconds[FAILED].value == 2000 * (500_000 + 2 * 410_000)
    assert in_flight(totals) == {(SMALL, "RUNNING"): 1}
    await scene.ledger.close()
