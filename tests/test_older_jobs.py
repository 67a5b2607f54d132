"""Jobs that are older than the lookback and end, are lost for a moment, or are shown late: each run once."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from exporter.errors import ApiUnavailable
from exporter.ledger.job_writer import JobWriter
from exporter.ledger.postgres import schema as postgres
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS
from exporter.model import Target, Totals
from exporter.octopus.wire import ListQuery
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import FAILED, Scene
from tests.ledgers import BACK_ENDS, BackEnd, SharedDatabase, SqliteFile, only_sqlite
from tests.postgres import PostgresDatabase

HOUR_MS = 3_600_000
NOW_MS = 1_772_434_800_000
LOOKBACK_MS = HOUR_MS
CREATED = {"created_ms": NOW_MS - 2 * HOUR_MS, "updated_ms": NOW_MS - 2 * HOUR_MS}
STARTED = {**CREATED, "started_ms": NOW_MS - HOUR_MS, "updated_ms": NOW_MS - HOUR_MS}


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    scene.api.now_ms = NOW_MS
    await scene.open()
    yield scene
    await scene.ledger.close()


async def polled(
    scene: Scene, ours_ms: int = 0, target: Target | None = None, lookback_ms: int | None = LOOKBACK_MS
) -> Totals:
    """Poll with our clock ahead of the server's by `ours_ms`."""
    return await scene.poll(target, poll_rules(lookback_ms=lookback_ms), ours_ms)


def end_now(scene: Scene, job_id: int) -> None:
    ended = {"ended_ms": scene.api.now_ms, "updated_ms": scene.api.now_ms}
    scene.api.put(a_job(job_id, "RUN_FAILED", **STARTED | ended))


def counted(totals: Totals) -> tuple[int, int, int]:
    """Give how many runs started, ended and ran again."""
    started = sum(sum(value.counts) for value in totals.submitting.values())
    return started, totals.completed[FAILED].value, totals.reruns[FAILED[0]].value


async def test_an_answer_that_is_late_shows_no_second_run(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    end_now(scene, 1)
    late, ended = a_job(1, "RUNNING", **STARTED), scene.api.jobs[1]
    assert counted(await polled(scene)) == (0, 1, 0)
    scene.api.put(late)
    assert counted(await polled(scene)) == (0, 1, 0)
    scene.api.put(ended)
    totals = await polled(scene)
    assert (counted(totals), totals.jobs[FAILED]) == ((0, 1, 0), 0)


async def test_a_wrong_clock_of_ours_forgets_no_job_too_early(scene: Scene) -> None:
    """Ours is two hours behind when the job ends, and right from then on."""
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    late = a_job(1, "RUNNING", **STARTED)
    end_now(scene, 1)
    ended = scene.api.jobs[1]
    assert counted(await polled(scene, ours_ms=-2 * HOUR_MS)) == (0, 1, 0)
    for row in (late, ended):
        scene.api.put(row)
        assert counted(await polled(scene)) == (0, 1, 0)


async def test_a_job_that_answers_lack_once_goes_on_with_its_run(scene: Scene) -> None:
    scene.api.put(a_job(1, **CREATED))
    await polled(scene)
    begun = {"started_ms": scene.api.now_ms, "updated_ms": scene.api.now_ms}
    running = a_job(1, "RUNNING", **CREATED | begun)
    scene.api.put(running)
    assert counted(await polled(scene)) == (1, 0, 0)
    scene.api.jobs.clear()
    assert counted(await polled(scene)) == (1, 0, 0)
    scene.api.put(running)
    assert counted(await polled(scene)) == (1, 0, 0)
    ended = {"ended_ms": scene.api.now_ms, "updated_ms": scene.api.now_ms}
    scene.api.put(a_job(1, "RUN_FAILED", **CREATED | begun | ended))
    assert counted(await polled(scene)) == (1, 1, 0)


@pytest.mark.parametrize("ignored", [(), ("start_time",)], ids=["as asked", "all are listed"])
async def test_an_hour_later_it_is_forgotten(scene: Scene, ignored: tuple[str, ...]) -> None:
    """So few jobs are all listed in each poll: also what is older, where the server does not leave it out."""
    scene.api.ignored = frozenset(ignored)
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    end_now(scene, 1)
    await polled(scene)
    kept = []
    for _ in range(4):
        scene.api.now_ms += 29 * 60_000
        totals = await polled(scene)
        assert totals.jobs[FAILED] == 0
        kept.append(scene.rows("jobs"))
    assert kept == [1, 1, 0, 0]


async def test_a_status_that_is_no_end_any_more_counts_no_forgotten_run_again(scene: Scene) -> None:
    """The server ignores `start_time`, so the rows come back: they show the runs that were counted."""
    scene.api.ignored, scene.api.terminal = frozenset({"start_time"}), frozenset({"SHELVED"})
    await polled(scene)
    for job_id in range(1, 8):
        scene.run_job(job_id, "SHELVED", ended_ms=None)
    shelved = (FAILED[0], "SHELVED")
    await polled(scene)
    assert (await polled(scene)).completed[shelved].value == 7
    for _ in range(5):
        scene.api.now_ms += 29 * 60_000
        await polled(scene)
    assert scene.rows("jobs") == 0
    for terminal in ((), ("SHELVED",), ()):
        scene.api.terminal = frozenset(terminal)
        totals = await polled(scene)
        assert (totals.completed[shelved].value, *counted(totals)) == (7, 7, 0, 0)


async def test_an_old_job_whose_type_comes_into_scope_does_not_run_again(scene: Scene) -> None:
    scene.api.put(a_job(1, **CREATED), a_job(2, job_type="SCENARIO_TO_SIM", **CREATED))
    await polled(scene, target=a_target(job_types=("SCENARIO_TO_SIM",)))
    await polled(scene)
    run = CREATED | dict.fromkeys(("started_ms", "updated_ms"), scene.api.now_ms)
    scene.api.put(a_job(1, "RUNNING", **run))
    assert counted(await polled(scene)) == (1, 0, 0)
    run |= dict.fromkeys(("ended_ms", "updated_ms"), scene.api.now_ms)
    scene.api.put(a_job(1, "RUN_FAILED", **run))
    assert counted(await polled(scene)) == (1, 1, 0)


@pytest.mark.parametrize("finished", [0, 30], ids=["all are listed", "changes are listed"])
@pytest.mark.parametrize("lacked", [1, 30])
async def test_the_end_of_a_job_that_answers_lacked_until_then_counts(
    scene: Scene, finished: int, lacked: int
) -> None:
    for job_id in range(100, 100 + finished):
        scene.run_job(job_id, "FINISHED")
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    assert (await polled(scene)).jobs[FAILED[0], "RUNNING"] == 1
    del scene.api.jobs[1]
    for _ in range(lacked):
        totals = await polled(scene)
        assert (counted(totals), totals.jobs[FAILED[0], "RUNNING"]) == ((0, 0, 0), 0)
    end_now(scene, 1)
    scene.api.now_ms += lacked * 10_000
    for _ in range(2):
        totals = await polled(scene)
        assert (counted(totals), totals.jobs[FAILED]) == ((0, 1, 0), 0)


async def test_a_question_for_a_job_that_is_gone_fails_no_poll(scene: Scene) -> None:
    def fail(query: ListQuery) -> None:
        if query.job_id == 1:
            raise ApiUnavailable("500")

    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    del scene.api.jobs[1]
    await polled(scene)
    end_now(scene, 1)
    scene.api.before_page = fail
    assert counted(await polled(scene)) == (0, 0, 0)
    assert scene.api.asked[-1].job_id == 1
    scene.api.before_page = None
    for _ in range(2):
        totals = await polled(scene)
    assert counted(totals) == (0, 1, 0)


async def test_a_job_that_was_deleted_in_flight_is_asked_for_now_and_then(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    scene.api.jobs.clear()
    scene.api.asked.clear()
    for _ in range(60):
        await polled(scene)
    assert sum(query.job_id == 1 for query in scene.api.asked) == 1 + 7


async def test_a_kept_job_counts_once_whichever_lookback_is_configured(scene: Scene) -> None:
    """It is listed while it is in the lookback, and forgotten an hour after it has left that."""
    scene.api.put(a_job(1, "RUNNING", **STARTED))
    await polled(scene)
    end_now(scene, 1)
    for lookback_ms in (LOOKBACK_MS, 5 * HOUR_MS, LOOKBACK_MS, None, LOOKBACK_MS):
        for _ in range(2):
            totals = await polled(scene, lookback_ms=lookback_ms)
            assert (counted(totals), totals.jobs[FAILED]) == ((0, 1, 0), lookback_ms != LOOKBACK_MS)
    scene.api.now_ms += 90 * 60_000
    totals = await polled(scene)
    assert (counted(totals), scene.rows("jobs")) == ((0, 1, 0), 0)
    totals = await polled(scene, lookback_ms=5 * HOUR_MS)
    assert (counted(totals), totals.jobs[FAILED]) == ((0, 1, 0), 1)


# -- what is kept costs nothing ----------------------------------------------------------------------------


def steps_to_forget(db: sqlite3.Connection, now_ms: int) -> int:
    """Count the steps of SQLite's machine that a commit takes to forget what it may."""
    count = itertools.count()
    db.set_progress_handler(lambda: next(count) < 0, 1)
    JobWriter(db, 1, now_ms, now_ms - LOOKBACK_MS).forget(now_ms - LOOKBACK_MS - 10_000)
    db.set_progress_handler(None, 1)
    return next(count)


@only_sqlite
async def test_what_is_kept_costs_no_poll_anything(scene: Scene) -> None:
    await polled(scene)
    row = """
        INSERT INTO jobs (target, id, job_type, status, created_ms, updated_ms, listed, in_flight, left_ms,
            outside)
        VALUES (1, ?, 'FRAME_EXTRACT', 'FINISHED', ?, 0, 0, 0, ?, 1)
    """
    with scene.sql() as db:
        few = steps_to_forget(db, NOW_MS)
        db.executemany(row, [(job_id, NOW_MS - 9 * HOUR_MS, NOW_MS) for job_id in range(6_000)])
        assert steps_to_forget(db, NOW_MS) < few + 100
        assert scene.rows("jobs") == 6_000
        db.execute("UPDATE jobs SET left_ms = ? WHERE id < 5", (NOW_MS - 2 * HOUR_MS,))
        assert steps_to_forget(db, NOW_MS) < few + 2_000
        assert scene.rows("jobs") == 5_995
        for left in (995, 0):
            steps_to_forget(db, NOW_MS + 2 * HOUR_MS)
            assert scene.rows("jobs") == left


# -- the version before ------------------------------------------------------------------------------------


def version_before(migrations: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """Give what makes the tables of the version before, and its number."""
    number = next(n for n, version in enumerate(migrations) if any("jobs_outside" in one for one in version))
    return [statement for version in migrations[:number] for statement in version], number


def old_rows() -> list[str]:
    """
    Give a target whose jobs 1 and 2 have ended outside the lookback, 3 in it; 4 is gone, and 5 is in flight.
    """
    job = """
        INSERT INTO jobs (target, id, job_type, status, created_ms, updated_ms, started_ms, ended_ms,
            counted_start_ms, listed, in_flight, runs, end_counted, left_ms)
        VALUES (1, {}, 'FRAME_EXTRACT', '{}', {}, {}, {}, {}, {}, {}, {}, {}, {}, {})
    """
    old, young, left = NOW_MS - 2 * HOUR_MS, NOW_MS - 600_000, NOW_MS - 60_000
    started = NOW_MS - HOUR_MS
    return [
        f"""
        INSERT INTO targets (project, project_id, workspace, path, commits, committed_ms, baselines,
            shown_types, watermark_ms, full_sync_ms, horizon_ms, covered_from_ms, forgotten_before_ms)
        VALUES ('perception', 'p1', '0', 'system-jobs', 7, {left}, '{{"*": 100000}}', '{{}}', {left}, {left},
            {started}, {started}, {started})
        """,
        "INSERT INTO listing VALUES (1, 'FRAME_EXTRACT', 'RUN_FAILED', 0, 1)",
        "INSERT INTO listing VALUES (1, 'FRAME_EXTRACT', 'RUNNING', 1, 1)",
        job.format(1, "RUN_FAILED", old, left, started, left, started, 0, 0, 1, 1, left),
        job.format(2, "RUN_FAILED", old, left, started, left, started, 0, 0, 1, 1, "NULL"),
        job.format(3, "RUN_FAILED", young, left, young, left, young, 1, 0, 1, 1, left),
        job.format(4, "RUNNING", old, old, started, "NULL", started, -1, 0, 0, 0, left),
        job.format(5, "RUNNING", old, old, started, "NULL", started, 1, 1, 0, 0, "NULL"),
    ]


@pytest.fixture(params=BACK_ENDS)
def old_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> BackEnd:
    """A ledger of the version before, in both back ends."""
    if request.param == "sqlite":
        made, number = version_before(MIGRATIONS)
        pragmas = [f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {number}"]
        file = tmp_path / "ledger.db"
        with closing(sqlite3.connect(file)) as db:
            db.executescript(";".join((*made, *pragmas, *old_rows())))
        return SqliteFile(file)
    database: PostgresDatabase = request.getfixturevalue("database")
    made, number = version_before(postgres.MIGRATIONS)
    shared = SharedDatabase(database.url)
    shared.rows(";".join((*made, f"UPDATE schema_version SET version = {number}", *old_rows())))
    return shared


async def test_what_an_older_version_keeps_is_forgotten_in_its_time(old_ledger: BackEnd) -> None:
    scene = Scene(old_ledger)
    scene.api.now_ms = NOW_MS
    await scene.open()
    young = {"created_ms": NOW_MS - 600_000, "started_ms": NOW_MS - 600_000}
    ended = dict.fromkeys(("ended_ms", "updated_ms"), NOW_MS - 60_000)
    scene.api.put(a_job(3, "RUN_FAILED", **young | ended), a_job(5, "RUNNING", **STARTED))
    end_now(scene, 4)
    for _ in range(2):
        totals = await polled(scene)
        assert (counted(totals), totals.jobs[FAILED], totals.jobs[FAILED[0], "RUNNING"]) == ((0, 1, 0), 1, 1)
    assert scene.back_end.number("SELECT sum(id) FROM jobs") == 1 + 3 + 4 + 5
    scene.api.now_ms += 90 * 60_000
    totals = await polled(scene)
    assert (counted(totals), totals.jobs[FAILED]) == ((0, 1, 0), 0)
    assert scene.back_end.number("SELECT sum(id) FROM jobs") == 5
    await scene.ledger.close()
