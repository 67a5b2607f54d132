"""What the ledger shows at 0 and what it releases: contract, rule 2."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter.counting.increments import RERUNS, RESOURCE_SECONDS
from exporter.counting.released import released_with
from exporter.errors import StartError
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS
from exporter.ledger.sql import SqlLedger
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import FAILED_STATUSES, JOB_TYPES, TERMINAL_STATUSES, SeriesKey, Totals
from exporter.sync.poll import Poll
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.ledgers import BackEnd, SqliteFile

TYPE = "FRAME_EXTRACT"
FAILED = (TYPE, "RUN_FAILED")
# created, submitting, reruns; completed, running, three of resource seconds; failures without a code
WITH_A_TYPE = 3 + 5 * len(TERMINAL_STATUSES) + len(FAILED_STATUSES)
# and the time to start of jobs without a spec, since the scene has one in flight
AT_FIRST = WITH_A_TYPE * len(JOB_TYPES) + 1


class Scene:
    """A ledger's file, an API and a target; nothing is released but by `release`."""

    def __init__(self, back_end: BackEnd) -> None:
        self.back_end = back_end
        self.api = FakeApi()
        self.api.put(a_job(1_000, "QUEUING", job_type="PACKAGE_IMPORT"))
        self.rules = poll_rules()
        self.target = a_target()
        self.ledger: SqlLedger

    async def open(self) -> None:
        self.ledger = await self.back_end.open()

    async def restart(self) -> Totals:
        await self.ledger.close()
        await self.open()
        return await self.restored()

    async def restored(self) -> Totals:
        totals = await self.ledger.restore(self.target, self.rules.counting)
        assert totals is not None
        return totals

    async def poll(self) -> Totals:
        self.api.now_ms += 10_000
        poll = Poll(self.target, self.api, self.ledger, self.rules, lambda: self.api.now_ms)
        return await poll.run()

    async def release(self, *keys: SeriesKey) -> Totals:
        """Release these series, or all that are held."""
        chosen = keys or tuple((await self.restored()).held)
        return await self.ledger.release(self.target, chosen, self.rules.counting, self.api.now_ms)

    def run_job(self, job_id: int, status: str = "RUN_FAILED", **fields: object) -> None:
        """Let a job be created, run for 30 s and end now."""
        now = self.api.now_ms = self.api.now_ms + 60_000
        times = {"created_ms": now - 35_000, "started_ms": now - 30_000, "ended_ms": now, "updated_ms": now}
        self.api.put(a_job(job_id, status, **(times | fields)))


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    yield scene
    await scene.ledger.close()


def code(totals: Totals, msg_code: str, status: str = "RUN_FAILED") -> int | None:
    value = totals.failures.get((TYPE, status, msg_code))
    return None if value is None else value.value


def counts(totals: Totals) -> tuple[int, int, int, int]:
    """Give what is shown of runs of TYPE that failed: created, completed, submitting, running."""
    return (
        totals.created[TYPE].value,
        totals.completed[FAILED].value,
        sum(totals.submitting[TYPE].counts),
        sum(totals.running[FAILED].counts),
    )


async def test_all_series_of_the_first_publication_are_held(scene: Scene) -> None:
    totals = await scene.poll()
    assert totals.held_series == AT_FIRST
    scene.run_job(1)
    totals = await scene.poll()
    assert (counts(totals), totals.running[FAILED].sum_ms) == ((0, 0, 0, 0), 0)
    assert totals.held_series == AT_FIRST
    assert totals.jobs[FAILED] == 1
    totals = await scene.release()
    assert (counts(totals), totals.running[FAILED].sum_ms) == ((1, 1, 1, 1), 30_000)
    assert (totals.held, totals.held_series) == (frozenset(), 0)


async def test_what_was_released_at_0_rises_at_once(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    scene.run_job(1)
    totals = await scene.poll()
    assert (counts(totals), totals.held_series) == ((1, 1, 1, 1), 0)


async def test_a_new_error_code_is_held_alone(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    scene.run_job(1, msg_code="4711")
    for job_id in (2, 3):
        totals = await scene.poll()
        assert (code(totals, "4711"), totals.completed[FAILED].value) == (0, job_id - 1)
        assert totals.held == {SeriesKey("failures", *FAILED, "4711")}
        scene.run_job(job_id, msg_code="4711")
    assert code(await scene.release(), "4711") == 2
    totals = await scene.poll()
    assert (code(totals, "4711"), totals.held_series) == (3, 0)


async def test_a_release_concerns_its_series_only(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    for job_id, msg_code in enumerate(("1", "2", "3")):
        scene.run_job(job_id, msg_code=msg_code)
    await scene.poll()
    totals = await scene.release(SeriesKey("failures", *FAILED, "2"), SeriesKey("failures", *FAILED, "none"))
    assert [code(totals, msg_code) for msg_code in ("1", "2", "3", "none")] == [0, 1, 0, None]
    assert totals.held_series == 2


async def test_a_release_outlasts_a_restart_and_so_does_the_hold(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    scene.run_job(1, msg_code="1")
    await scene.poll()
    await scene.release()
    scene.run_job(2, msg_code="2")
    await scene.poll()
    totals = await scene.restart()
    assert [code(totals, msg_code) for msg_code in ("1", "2")] == [1, 0]
    assert totals.held == {SeriesKey("failures", *FAILED, "2")}


async def test_an_invented_job_type_and_an_unknown_status_are_held(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    scene.run_job(1, job_type="INVENTED")
    scene.run_job(2, "BLOWN_FAILED", msg_code="7")
    totals = await scene.poll()
    assert totals.held_series == WITH_A_TYPE + 3  # completed, running and failures of the status
    assert totals.completed["INVENTED", "RUN_FAILED"].value == 0
    assert totals.completed[TYPE, "BLOWN_FAILED"].value == 0
    totals = await scene.release()
    assert totals.completed["INVENTED", "RUN_FAILED"].value == 1
    assert totals.failures["INVENTED", "RUN_FAILED", ""].value == 1
    assert totals.completed[TYPE, "BLOWN_FAILED"].value == 1
    assert sum(totals.running[TYPE, "BLOWN_FAILED"].counts) == 1
    assert code(totals, "7", "BLOWN_FAILED") == 1
    assert totals.held_series == 0


async def test_other_buckets_are_new_series_and_nothing_else_is(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    scene.run_job(1)
    await scene.poll()
    scene.rules = poll_rules(running_bounds=(5.0,))
    shown = await scene.restored()
    assert {key.family for key in shown.held} == {"running"}
    assert shown.held_series == len(JOB_TYPES) * len(TERMINAL_STATUSES)
    scene.run_job(2)
    scene.run_job(3, "FINISHED")
    totals = await scene.poll()
    assert counts(totals) == (3, 2, 3, 0)
    assert sum(totals.running[TYPE, "FINISHED"].counts) == 0
    totals = await scene.release()
    assert (counts(totals), totals.held_series) == ((3, 2, 3, 1), 0)
    assert sum(totals.running[TYPE, "FINISHED"].counts) == 1


async def test_other_buckets_may_be_released_before_the_next_poll(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    await scene.release()
    scene.rules = poll_rules(running_bounds=(5.0,))
    totals = await scene.release()
    assert (counts(totals), totals.held_series) == ((1, 1, 1, 0), 0)
    scene.run_job(2)
    assert counts(await scene.poll()) == (2, 2, 2, 1)


async def test_a_job_type_that_leaves_and_comes_back_keeps_its_values(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    scene.run_job(1, msg_code="5")
    await scene.poll()
    await scene.release()
    scene.target = a_target(job_types=("PACKAGE_IMPORT",))
    assert (await scene.poll()).held_series == 0
    scene.target = a_target()
    totals = await scene.poll()
    assert (counts(totals), code(totals, "5")) == ((1, 1, 1, 1), 1)
    # What stands at 0 is new again; what has counted is not.
    types_back = len(JOB_TYPES) - 1
    assert totals.held_series == types_back * WITH_A_TYPE - 4


async def test_what_the_first_sync_counts_is_shown_at_once_and_the_rest_is_held(scene: Scene) -> None:
    scene.rules = poll_rules(count_history=True)
    scene.run_job(1, msg_code="5")
    totals = await scene.poll()
    assert (counts(totals), code(totals, "5")) == ((1, 1, 1, 1), 1)
    assert totals.held_series == AT_FIRST - 6
    scene.run_job(2, msg_code="5")
    scene.run_job(3, "FINISHED", msg_code="6")
    scene.run_job(4, msg_code="6")
    totals = await scene.poll()
    assert (counts(totals), code(totals, "5"), code(totals, "6")) == ((4, 3, 4, 3), 2, 0)
    assert totals.completed[TYPE, "FINISHED"].value == 0
    totals = await scene.release()
    assert (totals.completed[TYPE, "FINISHED"].value, code(totals, "6")) == (1, 1)


async def test_every_record_of_the_first_poll_belongs_to_the_first_sync(scene: Scene) -> None:
    """A first poll may read everything more than once."""
    scene.rules = poll_rules(count_history=True)
    scene.run_job(1, msg_code="5")
    poll = Poll(scene.target, scene.api, scene.ledger, scene.rules, lambda: scene.api.now_ms)
    await poll.run()
    scene.run_job(2, msg_code="6")
    await poll._read_again("drift")
    assert (code(poll.totals, "5"), code(poll.totals, "6")) == (1, 1)


async def test_a_purge_leaves_nothing_released(scene: Scene) -> None:
    await scene.poll()
    await scene.release()
    assert await scene.ledger.forget(scene.target.key, lambda: True)
    assert (await scene.poll()).held_series == AT_FIRST


async def test_the_revision_grows_with_all_that_changes_what_is_shown(scene: Scene) -> None:
    revisions = [(await scene.poll()).revision]
    revisions.append((await scene.release()).revision)
    revisions.append((await scene.poll()).revision)
    restored = await scene.restored()
    assert revisions == sorted(set(revisions))
    assert restored.revision == revisions[-1]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (SeriesKey("created", TYPE), SeriesKey("created", TYPE)),
        (SeriesKey("completed", *FAILED), SeriesKey("completed", TYPE)),
        (SeriesKey("failures", *FAILED), SeriesKey("failures", TYPE)),
        (SeriesKey("failures", *FAILED, "1"), SeriesKey("failures", *FAILED, "1")),
        (SeriesKey("running", TYPE, "ARCHIVED"), SeriesKey("running", TYPE, "ARCHIVED")),
        (SeriesKey("submitting", TYPE), SeriesKey("submitting", TYPE)),
    ],
)
def test_what_is_shown_with_its_job_type_is_released_with_it(key: SeriesKey, expected: SeriesKey) -> None:
    assert released_with(key) == expected


# -- ledgers of older versions ---------------------------------------------------------------------------


def old_ledger(file: Path, *, commits: int, born: int) -> None:
    """
    Make a ledger of schema 3 with one type shown from the first commit on, and one from the last.

    Shape: the error code 4711 was born at the commit `born`.
    """
    with sqlite3.connect(file) as db:
        db.executescript(";".join(statement for version in MIGRATIONS[:3] for statement in version))
        db.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 3")
        db.execute(
            """
            INSERT INTO targets (project, project_id, workspace, path, commits, committed_ms, baselines,
                shown_types)
            VALUES ('perception', 'p1', '0', 'system-jobs', ?, 900000, '{"*": 500000}', ?)
            """,
            (commits, f'{{"{TYPE}": 600000, "INVENTED": 900000}}'),
        )
        db.execute("INSERT INTO listing VALUES (1, 'INVENTED', 'FINISHED', 0, 1)")
        counter = "INSERT INTO counters VALUES (1, ?, ?, ?, ?, ?, ?, NULL, 600000)"
        db.execute(counter, ("failures", *FAILED, "4711", born, 5))
        db.execute(counter, ("completed", *FAILED, "", 0, 5))
        db.execute(counter, ("completed", "INVENTED", "FINISHED", "", commits, 1))
        value = (
            '{"bounds": [10.0, 60.0], "counts": [0, 5, 0], "sum_ms": 150000, "exemplars": [null, null, null]}'
        )
        db.execute("INSERT INTO histograms VALUES (1, 'running', ?, ?, 0, ?)", (*FAILED, value))
    db.close()


@pytest.mark.parametrize(("born", "expected"), [(6, 5), (7, 0)])
async def test_an_older_ledger_has_released_what_it_has_shown_with_its_value(
    tmp_path: Path, born: int, expected: int
) -> None:
    scene = Scene(SqliteFile(tmp_path / "ledger.db"))
    old_ledger(tmp_path / "ledger.db", commits=7, born=born)
    await scene.open()
    totals = await scene.restored()
    assert (code(totals, "4711"), totals.completed[FAILED].value) == (expected, 5)
    assert sum(totals.running[FAILED].counts) == 5
    assert totals.completed["INVENTED", "FINISHED"].value == 0
    assert (SeriesKey("failures", *FAILED, "4711") in totals.held) == (expected == 0)
    assert SeriesKey("completed", "INVENTED") in totals.held
    of_its_type = {key.family for key in totals.held if key.job_type == TYPE and not key.msg_code}
    assert of_its_type == {"submitting", RERUNS, *RESOURCE_SECONDS}
    scene.run_job(1, msg_code="4711")
    totals = await scene.poll()
    assert totals.completed[FAILED].value == 6
    totals = await scene.release()
    assert (code(totals, "4711"), totals.completed["INVENTED", "FINISHED"].value) == (6, 1)
    await scene.ledger.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("targets.shown_types", "{"),
        ("targets.shown_types", "[]"),
        ("histograms.value", "{"),
        ("histograms.value", "{}"),
        ("histograms.value", '{"bounds": ["ten"], "counts": [0, 5], "sum_ms": 1, "exemplars": [null, null]}'),
    ],
)
async def test_what_is_damaged_in_an_older_ledger_is_named(tmp_path: Path, column: str, value: str) -> None:
    file, (table, _, name) = tmp_path / "ledger.db", column.partition(".")
    old_ledger(file, commits=7, born=6)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute(f"UPDATE {table} SET {name} = ?", (value,))
    with pytest.raises(StartError, match=f"damaged: {column} of project perception, workspace 0: "):
        await SqliteLedger.open(file)


async def test_a_type_that_comes_into_scope_is_shown_and_held_before_its_first_poll(scene: Scene) -> None:
    scene.target = a_target(job_types=("PACKAGE_IMPORT",))
    await scene.poll()
    await scene.release()
    scene.target = a_target(job_types=("PACKAGE_IMPORT", TYPE))
    totals = await scene.restored()
    assert {key.job_type for key in totals.held} == {TYPE}
    assert totals.held_series == WITH_A_TYPE
