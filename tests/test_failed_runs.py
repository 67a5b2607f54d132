"""Which failed runs a ledger keeps, what it knows of them, and how it counts runs by the hour."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter.errors import LedgerError
from exporter.ledger.ended import HOUR_MS, LEAST_KEPT, MOST_KEPT
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS
from exporter.model import Run
from exporter.runs import RunFilter
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import Scene
from tests.ledgers import BackEnd, only_sqlite

DAY_MS = 24 * HOUR_MS


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    scene.api.now_ms = 1_800_000_000_000
    await scene.open()
    yield scene
    await scene.ledger.close()


async def test_a_failed_run_is_kept_with_all_that_is_known_of_it(scene: Scene) -> None:
    began = scene.api.now_ms
    job = a_job(
        7,
        "RUNNING",
        created_ms=began,
        updated_ms=began + 5_000,
        started_ms=began + 5_000,
        submitting_ms=5_000,
        data_id="DPK0000001",
        resource_spec="2Core_8GiB",
    )
    scene.api.put(job)
    await scene.poll()
    times = {"ended_ms": began + 20_000, "updated_ms": began + 20_000, "running_ms": 15_000}
    scene.api.now_ms = began + 21_000
    scene.api.put(a_job(7, "RUN_FAILED", **{**_fields(job), **times, "msg_code": "3001", "msg_error": "bad"}))
    await scene.poll()
    assert await scene.failed_runs() == [
        Run(
            job_id=7,
            number=1,
            job_type="FRAME_EXTRACT",
            status="RUN_FAILED",
            msg_code="3001",
            msg_error="bad",
            data_id="DPK0000001",
            resource_spec="2Core_8GiB",
            created_ms=began,
            started_ms=began + 5_000,
            ended_ms=began + 20_000,
            at_ms=began + 20_000,
            submitting_ms=5_000,
            running_ms=15_000,
            failed=True,
        )
    ]


def _fields(job: object) -> dict[str, object]:
    names = ("created_ms", "started_ms", "submitting_ms", "data_id", "resource_spec")
    return {name: getattr(job, name) for name in names}


async def test_runs_of_a_job_are_numbered_history_included(scene: Scene) -> None:
    past = scene.api.now_ms - 60_000
    scene.api.put(a_job(1, "RUN_FAILED", created_ms=past, updated_ms=past, ended_ms=past))
    await scene.poll()
    scene.run_job(1)
    scene.run_job(2)
    await scene.poll()
    scene.api.put(a_job(2, "RUNNING", created_ms=past, updated_ms=scene.api.now_ms))
    await scene.poll()
    scene.run_job(2)
    await scene.poll()
    kept = [(run.job_id, run.number) for run in await scene.failed_runs()]
    assert kept == [(2, 2), (2, 1), (1, 2)]


async def test_a_run_of_a_job_that_was_forgotten_is_not_its_first(scene: Scene) -> None:
    rules = poll_rules(lookback_ms=HOUR_MS)
    scene.run_job(1)
    await scene.poll(rules=rules)
    old = scene.api.jobs.pop(1)
    scene.api.now_ms += 2 * HOUR_MS
    await scene.poll(rules=rules)
    assert scene.rows("jobs") == 0
    scene.api.put(a_job(1, "RUNNING", created_ms=old.created_ms, updated_ms=scene.api.now_ms))
    await scene.poll(rules=rules)
    scene.run_job(1, created_ms=old.created_ms)
    await scene.poll(rules=rules)
    assert [run.number for run in await scene.failed_runs()] == [2]


@pytest.mark.parametrize("skew_hours", [-5, 0, 5])
async def test_the_end_is_by_our_clock_whatever_the_servers_shows(tmp_path: Path, skew_hours: int) -> None:
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    try:
        scene.api.now_ms = 1_800_000_000_000
        scene.api.skew_ms = skew = skew_hours * HOUR_MS
        await scene.poll()
        scene.api.now_ms += 60_000
        ended = scene.api.now_ms - 5_000
        times = {"created_ms": ended - 9_000 + skew, "updated_ms": ended + skew, "ended_ms": ended + skew}
        scene.api.put(a_job(1, "RUN_FAILED", **times))
        await scene.poll()
        (run,) = await scene.failed_runs()
        assert run.ended_ms == ended + skew
        assert abs(run.at_ms - ended) <= 1_000
    finally:
        await scene.ledger.close()


async def test_no_run_ended_later_than_it_was_seen(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1, ended_ms=253_402_300_000_000, updated_ms=scene.api.now_ms)
    scene.run_job(2)
    await scene.poll()
    assert all(run.at_ms <= scene.api.now_ms for run in await scene.failed_runs())


async def test_what_a_job_works_on_is_kept_while_it_is_in_flight_only(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUNNING", data_id="DPK1", resource_spec="1Core_4GiB"))
    scene.api.put(a_job(2, "RUNNING", data_id="DPK2"))
    await scene.poll()
    kept = "SELECT id, runs, data_id, resource_spec FROM jobs ORDER BY id"
    assert scene.back_end.rows(kept) == [(1, 0, "DPK1", "1Core_4GiB"), (2, 0, "DPK2", "")]
    scene.run_job(1, "FINISHED", data_id="DPK1")
    del scene.api.jobs[2]
    await scene.poll()
    assert scene.back_end.rows(kept) == [(1, 1, None, None), (2, 0, None, None)]


async def test_failed_runs_are_kept_for_a_day(scene: Scene) -> None:
    await scene.poll()
    for job_id in range(1, LEAST_KEPT + 11):
        scene.run_job(job_id)
        scene.api.now_ms -= 60_000
    await scene.poll()
    assert scene.rows("failed_runs") == LEAST_KEPT + 10
    scene.api.now_ms += DAY_MS - HOUR_MS
    scene.run_job(1000)
    await scene.poll()
    assert scene.rows("failed_runs") == LEAST_KEPT + 11
    scene.api.now_ms += 2 * HOUR_MS
    await scene.poll()
    # All are as old: those that are as old as the last of the latest 500 stay with it.
    scene.run_job(1001)
    await scene.poll()
    kept = [run.job_id for run in await scene.failed_runs()]
    assert kept[:2] == [1001, 1000]
    assert LEAST_KEPT <= len(kept) <= LEAST_KEPT + 12


async def test_the_latest_500_are_kept_however_old(scene: Scene) -> None:
    await scene.poll()
    for job_id in range(1, LEAST_KEPT + 101):
        scene.run_job(job_id)
    await scene.poll()
    scene.api.now_ms += 10 * DAY_MS
    await scene.poll()
    kept = [run.job_id for run in await scene.failed_runs()]
    assert kept == list(range(LEAST_KEPT + 100, 100, -1))


async def test_no_more_than_10_000_are_kept_of_a_target(scene: Scene) -> None:
    await scene.poll()
    now = scene.api.now_ms
    for job_id in range(1, MOST_KEPT + 501):
        times = {"created_ms": now, "updated_ms": now + job_id, "ended_ms": now + job_id}
        scene.api.put(a_job(job_id, "RUN_FAILED", **times))
    scene.api.now_ms += 30_000
    await scene.poll(rules=poll_rules(page_size=200))
    kept = [run.job_id for run in await scene.failed_runs()]
    assert (len(kept), kept[0], kept[-1]) == (MOST_KEPT, MOST_KEPT + 500, 501)


async def usual(scene: Scene, which: RunFilter = RunFilter()) -> float | None:  # noqa: B008 - it is frozen
    async with scene.ledger.reading() as reader:
        (hour,) = await reader.last_hour([a_target().key], which, scene.api.now_ms)
        return hour.mean_per_hour


async def test_the_usual_number_is_the_mean_of_whole_hours(scene: Scene) -> None:
    """Left out before there is a day of them."""
    await scene.poll()
    for hour in range(30):
        for number in range(3):
            job_id = 10 * hour + number
            scene.run_job(job_id, ("RUN_FAILED", "UPLOAD_FAILED", "FINISHED")[number])
            scene.api.now_ms -= 60_000
        await scene.poll()
        assert (await usual(scene) is None) == (hour < 26), hour
        scene.api.now_ms += HOUR_MS - 10_000
    assert await usual(scene) == pytest.approx(2.0, rel=0.05)
    assert await usual(scene, RunFilter(status="UPLOAD_FAILED")) == pytest.approx(1.0, rel=0.05)
    assert await usual(scene, RunFilter(job_type="PACKAGE_IMPORT")) == 0.0
    # The hourly counts know no codes, so a filter by code does not change the mean.
    assert await usual(scene, RunFilter(msg_code="3001")) == await usual(scene)


async def test_a_spike_is_not_part_of_what_is_usual_before_it_is_an_hour_old(scene: Scene) -> None:
    """Nor when the hour of the clock ends during it."""
    await scene.poll()
    for _ in range(27):
        scene.run_job(scene.api.now_ms)
        await scene.poll()
        scene.api.now_ms += HOUR_MS
    before = await usual(scene)
    scene.api.now_ms -= scene.api.now_ms % HOUR_MS
    scene.api.now_ms += HOUR_MS - 5 * 60_000
    for number in range(50):
        scene.run_job(10**15 + number)
        scene.api.now_ms -= 60_000
    await scene.poll()
    scene.api.now_ms += 10 * 60_000
    assert await usual(scene) == pytest.approx(before, rel=0.05)


async def test_hourly_counts_go_on_over_restarts_and_end_after_a_week(scene: Scene) -> None:
    await scene.poll()
    for _ in range(3):
        scene.run_job(scene.api.now_ms)
        scene.run_job(scene.api.now_ms, "FINISHED")
        await scene.poll()
        await scene.ledger.close()
        await scene.open()
    counted = "SELECT status, failed, sum(runs) FROM hourly_runs GROUP BY 1, 2 ORDER BY 1"
    assert scene.back_end.rows(counted) == [("FINISHED", 0, 3), ("RUN_FAILED", 1, 3)]
    scene.api.now_ms += 7 * DAY_MS
    await scene.poll()
    assert scene.rows("hourly_runs") > 0
    scene.api.now_ms += 2 * HOUR_MS
    await scene.poll()
    assert scene.rows("hourly_runs") == 0


async def test_what_is_counted_late_counts_in_the_hour_it_ended_in(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1)
    hour = scene.api.now_ms // HOUR_MS
    scene.api.now_ms += 3 * HOUR_MS
    await scene.poll()
    assert scene.back_end.rows("SELECT hour, runs FROM hourly_runs") == [(hour, 1)]


async def test_history_is_neither_kept_nor_counted_by_the_hour(scene: Scene) -> None:
    scene.run_job(1)
    scene.api.now_ms += 60_000
    await scene.poll()
    assert (scene.rows("failed_runs"), scene.rows("hourly_runs"), scene.rows("jobs")) == (0, 0, 1)


async def test_a_job_type_that_is_not_polled_any_more_takes_its_runs_along(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1)
    scene.run_job(2, job_type="PACKAGE_IMPORT")
    await scene.poll()
    await scene.poll(a_target(job_types=("PACKAGE_IMPORT",)))
    assert [run.job_id for run in await scene.failed_runs()] == [2]
    assert scene.rows("hourly_runs") == 1


@only_sqlite
async def test_a_poll_that_cannot_be_recorded_keeps_no_run(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1)
    with scene.sql() as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            await scene.poll()
    assert (scene.rows("failed_runs"), scene.rows("hourly_runs")) == (0, 0)
    await scene.poll()
    assert (scene.rows("failed_runs"), scene.rows("hourly_runs")) == (1, 1)


async def test_the_failures_of_an_older_ledger_are_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    failure = '{"job_id":%d,"job_type":"FRAME_EXTRACT","status":"RUN_FAILED",'
    failure += '"msg_code":"7","msg_error":"%s","at_ms":%d}'
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for statement in (statement for migration in MIGRATIONS[:3] for statement in migration):
            db.execute(statement)
        key = a_target().key
        db.execute(
            "INSERT INTO targets (id, project, project_id, workspace, path) VALUES (1, ?, ?, ?, ?)",
            (key.project, key.project_id, key.workspace, key.path),
        )
        for job_id, in_flight, listed in ((1, 0, 1), (2, 1, 1), (3, 0, -1)):
            db.execute(
                "INSERT INTO jobs VALUES (1, ?, 'FRAME_EXTRACT', 'RUN_FAILED', 50, 90, 60, 90, 60, ?, ?)",
                (job_id, listed, in_flight),
            )
        kept = [
            (90, failure % (1, "é", 90)),
            (70, failure % (1, "first", 70)),
            (80, "{"),
            (81, '{"job_id":"x"}'),
        ]
        db.executemany("INSERT INTO recent_failures VALUES (1, ?, ?)", kept)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 3")
    scene = Scene(file)
    await scene.open()
    runs = await scene.failed_runs()
    await scene.ledger.close()
    assert [(run.job_id, run.number, run.msg_error, run.at_ms) for run in runs] == [
        (1, 2, "é", 90),
        (1, 1, "first", 70),
    ]
    assert (runs[0].created_ms, runs[0].started_ms, runs[0].ended_ms) == (50, 60, 90)
    assert (runs[1].started_ms, runs[1].data_id, runs[1].running_ms) == (None, "", None)
    with scene.sql() as db:
        assert db.execute("SELECT id, runs FROM jobs ORDER BY id").fetchall() == [(1, 2), (2, 0), (3, 0)]


@only_sqlite
async def test_damage_in_a_failed_run_hides_no_other(scene: Scene) -> None:
    await scene.poll()
    for job_id in (1, 2, 3):
        scene.run_job(job_id, msg_error="message")
    await scene.poll()
    with scene.sql() as db:
        db.execute("UPDATE failed_runs SET msg_error = CAST(X'41ff' AS TEXT) WHERE job_id = 2")
    runs = await scene.failed_runs()
    assert [(run.job_id, run.msg_error) for run in runs] == [(3, "message"), (2, "A\ufffd"), (1, "message")]
    await scene.poll()
    await scene.ledger.close()
    await scene.open()
