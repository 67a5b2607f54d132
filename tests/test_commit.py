"""What one commit makes of the rows that a poll has staged, and of the jobs that it did not show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.counting.rules import CountingRules
from exporter.ledger.sql import SqlLedger
from exporter.model import Job, Totals
from exporter.sync.ledger import Audit, FoundBy, PageOrigin, PollResult, RowKind, SetApart
from exporter.sync.server_traits import Filters
from tests.fake_api import COUNTING, a_job, a_target
from tests.held import release_held
from tests.ledgers import WITH_POOLER, BackEnd, back_end_of

TYPE = "FRAME_EXTRACT"
TARGET = a_target()
BEGAN_MS = 500_000
DAY_MS = 86_400_000
HISTORY = replace(COUNTING, count_history=True)


class Scene:
    """A ledger, and what each commit is given."""

    def __init__(self, ledger: SqlLedger, back_end: BackEnd) -> None:
        self.ledger = ledger
        self.rows = back_end.rows
        self.now_ms = BEGAN_MS

    async def record(self, *jobs: Job, rules: CountingRules = COUNTING, **given: object) -> Totals:
        """Stage these jobs and record them, as the only ones that are listed."""
        now_ms = self.now_ms
        poll = PollResult(TARGET, now_ms, now_ms, 0, now_ms, None, full=True, filters=Filters())
        await self.ledger.begin(TARGET)
        origin = PageOrigin(FoundBy.WINDOW, 1, poll.began_ms)
        await self.ledger.stage(TARGET, jobs, [RowKind.OWN] * len(jobs), origin, rules)
        totals = await self.ledger.record(replace(poll, **given), rules)  # type: ignore[arg-type]  # by name
        self.now_ms += 10_000
        return totals


@pytest.fixture(params=WITH_POOLER)
def back_end(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackEnd]:
    with back_end_of(request, tmp_path) as made:
        yield made


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    ledger = await back_end.open()
    yield Scene(ledger, back_end)
    await ledger.close()


def failed(job_id: int, ended_ms: int, **fields: object) -> Job:
    times = {"started_ms": ended_ms - 10, "ended_ms": ended_ms, "updated_ms": ended_ms}
    return a_job(job_id, "RUN_FAILED", **(times | {"created_ms": ended_ms - 20} | fields))


def failures(totals: Totals, code: str) -> int | None:
    value = totals.failures.get((TYPE, "RUN_FAILED", code))
    return None if value is None else value.value


@pytest.mark.parametrize(("ahead_ms", "status"), [(70_000, "RUNNING"), (70_001, "STOPPED")])
async def test_a_row_a_minute_ahead_of_the_rows_clock_gives_way_to_an_older_one(
    scene: Scene, ahead_ms: int, status: str
) -> None:
    """The clock of the rows is 10 s ahead of the one that is believed."""
    now_ms = BEGAN_MS + 10_000
    await scene.record(a_job(1, "RUNNING", updated_ms=now_ms + ahead_ms))
    assert scene.now_ms == now_ms
    await scene.record(a_job(1, "STOPPED", ended_ms=now_ms, updated_ms=now_ms), lead_ms=10_000)
    assert scene.rows("SELECT status FROM jobs") == [(status,)]


async def test_a_baseline_that_is_just_reached_stays(scene: Scene) -> None:
    """It is later than the watermark by what the rows are ahead, and what ended before it is history."""
    await scene.record(lead_ms=10_000)
    baseline_ms = BEGAN_MS + 10_000
    assert scene.now_ms == baseline_ms
    await scene.record(failed(1, baseline_ms - 1))
    assert scene.rows("SELECT job_id FROM failed_runs") == []


async def test_a_failed_run_is_kept(scene: Scene) -> None:
    await scene.record()
    await scene.record(failed(1, scene.now_ms))
    assert scene.rows("SELECT job_id FROM failed_runs") == [(1,)]


async def test_hourly_runs_are_forgotten_when_an_hour_begins(scene: Scene) -> None:
    await scene.record()
    await scene.record(failed(1, scene.now_ms))
    kept = "SELECT count(*) FROM hourly_runs"
    assert scene.rows(kept) != [(0,)]
    scene.now_ms += 400 * DAY_MS
    await scene.record()
    assert scene.rows(kept) == [(0,)]


async def test_a_histogram_of_other_bounds_begins_with_the_runs_of_that_commit(scene: Scene) -> None:
    await scene.record()
    await scene.record(failed(1, scene.now_ms, running_ms=20_000))
    rules = replace(COUNTING, running_bounds=(5.0,))
    began_ms = scene.now_ms
    await scene.record(failed(2, began_ms, running_ms=20_000), rules=rules)
    values = scene.rows("SELECT value FROM histograms WHERE family LIKE '%running%'")
    assert {json.loads(str(value))["created_ms"] for (value,) in values} == {began_ms}
    await release_held(scene.ledger, TARGET, rules, scene.now_ms)
    totals = await scene.record(rules=rules)
    assert sum(totals.running[TYPE, "RUN_FAILED"].counts) == 1


async def test_a_job_that_is_not_shown_is_not_listed(scene: Scene) -> None:
    running = a_job(1, "RUNNING")
    await scene.record(running)
    assert (await scene.record(full=False)).jobs[TYPE, "RUNNING"] == 0


async def test_while_a_row_has_no_id_it_may_be_any_job(scene: Scene) -> None:
    await scene.record(a_job(1, "RUNNING"))
    nameless = SetApart("#1", None, "RUNNING", 1_000, "id: expected a number")
    totals = await scene.record(set_apart=(nameless,))
    assert totals.jobs[TYPE, "RUNNING"] == 1
    assert await scene.ledger.set_apart_by_status(TARGET) == {"": 1}
    assert (await scene.record()).jobs[TYPE, "RUNNING"] == 0


async def test_a_job_found_deleted_is_not_listed(scene: Scene) -> None:
    await scene.record(a_job(1, "FINISHED", ended_ms=2_000), a_job(2, "FINISHED", ended_ms=2_000))
    assert (await scene.record(full=False)).jobs[TYPE, "FINISHED"] == 2
    assert (await scene.record(full=False, deleted=(1,))).jobs[TYPE, "FINISHED"] == 1


async def test_history_is_listed_as_finished(scene: Scene) -> None:
    await scene.record(a_job(1, "FINISHED", ended_ms=2_000))
    assert scene.rows("SELECT status, in_flight, jobs FROM listing") == [("FINISHED", 0, 1)]


@pytest.mark.parametrize(
    ("rules", "commits_before", "same_poll", "value"),
    [
        pytest.param(HISTORY, 0, False, 1, id="history is shown by the first commit"),
        pytest.param(HISTORY, 1, True, 1, id="or by the same poll's second one"),
        pytest.param(HISTORY, 1, False, 0, id="the second poll's new series begins at 0"),
        pytest.param(HISTORY, 2, True, 0, id="even where that poll records again"),
        pytest.param(COUNTING, 1, True, 0, id="without history every new series begins at 0"),
    ],
)
async def test_with_history_the_first_poll_shows_at_once_what_it_counts(
    scene: Scene, rules: CountingRules, commits_before: int, same_poll: bool, value: int
) -> None:
    for _ in range(commits_before):
        await scene.record(rules=rules)
    totals = await scene.record(failed(1, scene.now_ms, msg_code="5"), rules=rules, same_poll=same_poll)
    assert failures(totals, "5") == value


async def test_nothing_stays_staged(scene: Scene) -> None:
    await scene.record(a_job(1))
    assert (await scene.ledger.staged(TARGET, 0, 0)).in_all == 0


async def test_no_job_created_after_the_newest_one_is_forgotten(scene: Scene) -> None:
    """A lookback that begins in the future was set by a wrong clock."""
    await scene.record(a_job(1, "FINISHED", created_ms=2_000, ended_ms=3_000))
    await scene.record(horizon_ms=BEGAN_MS * 10)
    assert scene.rows("SELECT forgotten_before_ms FROM targets") == [(2_001,)]


async def test_a_full_sync_begins_the_audits_anew(scene: Scene) -> None:
    await scene.record()
    audit = Audit(BEGAN_MS, {"RUNNING": 1}, persists=True, again=True)
    await scene.ledger.audited(TARGET, audit, COUNTING)
    await scene.record(full_sync="drift")
    kept = (await scene.ledger.summary(TARGET)).audit
    assert kept == replace(audit, persists=False, again=False, standing=None)


async def test_a_poll_that_records_again_is_one_commit_and_another_revision(scene: Scene) -> None:
    await scene.record()
    await scene.record(same_poll=True)
    await scene.record()
    assert scene.rows("SELECT commits, revision FROM targets") == [(2, 3)]
