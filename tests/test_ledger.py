"""What the SQLite ledger keeps, shows and refuses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter.config import LedgerSettings
from exporter.errors import LedgerError, StartError
from exporter.ledger.opening import open_ledger
from exporter.ledger.questions import (
    _COUNT_TERMINAL,
    _LISTED_IN_FLIGHT,
    _LISTED_TERMINAL,
    _STAGED_BETWEEN,
)
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS
from exporter.ledger.sqlite import SqliteLedger
from exporter.ledger.staging import STAGING
from exporter.model import JOB_TYPES, STATUSES, TERMINAL_STATUSES, CounterValue, Target, Totals
from exporter.sync.change_reader import PollRules
from exporter.sync.ledger import FoundBy, PageOrigin
from exporter.sync.poll import Poll
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.held import release_held

TYPE = "FRAME_EXTRACT"
FAILED = (TYPE, "RUN_FAILED")


class Scene:
    """A ledger, an API, and a target to poll."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi()
        self.target = a_target()
        self.rules = poll_rules()

    async def poll(self, target: Target | None = None, rules: PollRules | None = None) -> Totals:
        self.api.now_ms += 10_000
        target, rules = target or self.target, rules or self.rules
        await release_held(self.ledger, target, rules.counting, self.api.now_ms)
        poll = Poll(target, self.api, self.ledger, rules, lambda: self.api.now_ms)
        return await poll.run()

    def run_job(self, job_id: int, status: str = "RUN_FAILED", **fields: object) -> None:
        """Let a job be created, run for 30 s and end now."""
        now = self.api.now_ms = self.api.now_ms + 60_000
        times = {"created_ms": now - 35_000, "started_ms": now - 30_000, "ended_ms": now, "updated_ms": now}
        self.api.put(a_job(job_id, status, **(times | fields)))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(await SqliteLedger.open(tmp_path / "ledger.db"))
    yield scene
    await scene.ledger.close()


def failures(totals: Totals, code: str) -> int | None:
    value = totals.failures.get((*FAILED, code))
    return None if value is None else value.value


async def test_the_first_publication_has_every_series_at_zero(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUN_FAILED", ended_ms=1), a_job(2, "RUNNING", started_ms=1_003))
    totals = await scene.poll()
    assert {kind for kind, _ in totals.jobs} == set(JOB_TYPES)
    assert {status for _, status in totals.jobs} == set(STATUSES)
    assert set(totals.completed) == {(kind, status) for kind in JOB_TYPES for status in TERMINAL_STATUSES}
    assert {value.value for value in totals.completed.values()} == {0}
    assert {value.value for value in totals.created.values()} == {0}
    assert {sum(value.counts) for value in totals.submitting.values()} == {0}
    assert {sum(value.counts) for value in totals.running.values()} == {0}
    assert totals.jobs[FAILED] == 1
    assert totals.oldest_started_ms == {(TYPE, "RUNNING"): 1_003}


async def test_a_new_error_code_is_born_at_zero_and_takes_its_value_next(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1, msg_code="4711")
    first, second = await scene.poll(), await scene.poll()
    assert (failures(first, "4711"), failures(second, "4711")) == (0, 1)
    assert first.completed[FAILED].value == 1  # this series was there before, at 0


async def test_a_series_stays_at_zero_over_a_restart_before_its_next_publication(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1, msg_code="4711")
    await scene.poll()
    restored = await scene.ledger.restore(scene.target, scene.rules.counting)
    assert restored is not None
    assert failures(restored, "4711") == 0
    assert failures(await scene.poll(), "4711") == 1


async def test_a_job_type_the_api_invents_is_born_at_zero_in_all_its_series(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1, "FINISHED", job_type="INVENTED")
    first, second = await scene.poll(), await scene.poll()
    assert (first.created["INVENTED"].value, second.created["INVENTED"].value) == (0, 1)
    done = ("INVENTED", "FINISHED")
    assert (first.completed[done].value, second.completed[done].value) == (0, 1)
    assert (sum(first.running[done].counts), sum(second.running[done].counts)) == (0, 1)
    assert first.completed["INVENTED", "STOPPED"].value == 0
    assert first.jobs[done] == 1


async def test_count_history_counts_what_the_first_sync_lists(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUN_FAILED", started_ms=1_002, ended_ms=1_003, msg_code="5"))
    rules = poll_rules(count_history=True)
    totals = await scene.poll(rules=rules)
    assert totals.completed[FAILED].value == 1
    assert failures(totals, "5") == 1
    assert totals.created[TYPE].value == 1


async def test_histograms_have_exact_sums_and_the_job_last_counted(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1, submitting_ms=1_000, running_ms=10_001)
    scene.run_job(2, submitting_ms=1_001, running_ms=9_999)
    totals = await scene.poll()
    submitting, running = totals.submitting[TYPE], totals.running[FAILED]
    assert (submitting.counts, submitting.sum_ms) == ((1, 1, 0), 2_001)  # a bound belongs to its bucket
    assert (running.counts, running.sum_ms) == ((1, 1, 0), 20_000)
    assert [shown and shown.job_id for shown in running.exemplars] == [2, 1, None]
    assert [shown and shown.value for shown in running.exemplars] == [9.999, 10.001, None]
    exemplar = totals.failures[(*FAILED, "")].exemplar
    assert exemplar is not None
    assert exemplar.job_id == 2


async def test_other_buckets_restart_that_histogram_and_nothing_else(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    scene.run_job(2)
    totals = await scene.poll(rules=poll_rules(running_bounds=(5.0,)))
    assert totals.running[FAILED].counts == (0, 1)
    assert sum(totals.submitting[TYPE].counts) == 2
    assert totals.completed[FAILED].value == 2


async def test_error_codes_beyond_the_most_become_other(scene: Scene) -> None:
    await scene.poll()
    for job_id, code in enumerate(("1", "2", "3", "4", "1", ""), start=1):
        scene.run_job(job_id, msg_code=code)
    rules = poll_rules(max_msg_codes=2)
    await scene.poll(rules=rules)
    totals = await scene.poll(rules=rules)
    counted = {code: value.value for (*_, code), value in totals.failures.items() if value.value}
    assert counted == {"1": 2, "2": 1, "other": 2, "": 1}


async def test_rows_that_leave_the_lookback_leave_the_counters_alone(scene: Scene) -> None:
    rules = poll_rules(lookback_ms=100_000)
    await scene.poll(rules=rules)
    scene.run_job(1)
    assert (await scene.poll(rules=rules)).jobs[FAILED] == 1
    scene.api.now_ms += 200_000
    totals = await scene.poll(rules=rules)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (0, 1)
    wider = poll_rules(lookback_ms=1_000_000)
    await scene.poll(rules=wider)
    totals = await scene.poll(rules=wider)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (1, 1)


async def test_a_job_in_flight_counts_however_old_it_is(scene: Scene) -> None:
    rules = poll_rules(lookback_ms=100_000)
    scene.api.put(a_job(1, "RUNNING", started_ms=2_000))
    totals = await scene.poll(rules=rules)
    assert totals.jobs[TYPE, "RUNNING"] == 1
    scene.api.put(
        a_job(1, "FINISHED", started_ms=2_000, ended_ms=scene.api.now_ms, updated_ms=scene.api.now_ms)
    )
    totals = await scene.poll(rules=rules)
    assert (totals.jobs[TYPE, "RUNNING"], totals.jobs[TYPE, "FINISHED"]) == (0, 0)
    assert totals.completed[TYPE, "FINISHED"].value == 1


async def test_a_deleted_job_is_not_listed_but_stays_counted(scene: Scene) -> None:
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    gone = scene.api.jobs.pop(1)
    totals = await scene.poll()
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (0, 1)
    scene.api.put(gone)
    totals = await scene.poll()
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (1, 1)


async def test_a_job_type_that_comes_into_scope_brings_no_past(scene: Scene) -> None:
    narrow = a_target(job_types=("SCENARIO_TO_SIM",))
    await scene.poll(narrow)
    scene.run_job(1)
    assert (TYPE, "RUN_FAILED") not in (await scene.poll(narrow)).jobs
    totals = await scene.poll(a_target())
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (1, 0)
    scene.run_job(2)
    await scene.poll(a_target())
    assert (await scene.poll(a_target())).completed[FAILED].value == 1


async def test_a_job_type_that_was_out_of_scope_for_a_while_brings_no_past(scene: Scene) -> None:
    scene.api.put(a_job(1, "RUNNING", started_ms=2_000))
    await scene.poll()
    narrow = a_target(job_types=("SCENARIO_TO_SIM",))
    await scene.poll(narrow)
    scene.run_job(1)
    await scene.poll(narrow)
    await scene.poll()
    assert (await scene.poll()).completed[FAILED].value == 0


async def test_rows_of_another_workspace_are_not_ours(scene: Scene) -> None:
    target = a_target(workspace="7", workspace_id="7")
    scene.api.put(
        a_job(1, workspace_id="7"),
        a_job(2, workspace_id="8"),
        a_job(3),
        a_job(4, job_type="X", workspace_id="8"),
    )
    totals = await scene.poll(target)
    assert totals.jobs[TYPE, "QUEUING"] == 2
    assert "X" not in totals.created


@pytest.mark.parametrize("shown_as", ["2022-01-01", "now", None])
async def test_history_is_no_spike_whatever_the_clock_says(scene: Scene, shown_as: str | None) -> None:
    """A server whose clock is years behind the times of its own jobs does not make them all news."""
    real_ms = 1_800_000_000_000
    scene.api.put(a_job(1, "RUN_FAILED", created_ms=real_ms, updated_ms=real_ms + 5, ended_ms=real_ms + 5))
    scene.api.now_ms = real_ms + 60_000 if shown_as == "now" else 1_640_995_200_000
    scene.api.gives_time = shown_as is not None
    await scene.poll()
    assert (await scene.poll()).completed[FAILED].value == 0


async def test_one_row_of_an_absurd_time_does_not_make_history_of_the_future(scene: Scene) -> None:
    scene.api.put(a_job(99, "RUN_FAILED", ended_ms=1_500, updated_ms=253_402_300_799_000))
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    assert (await scene.poll()).completed[FAILED].value == 1


async def test_a_job_stamped_by_a_wrong_clock_ends_nonetheless(scene: Scene) -> None:
    await scene.poll()
    now = scene.api.now_ms
    scene.api.put(a_job(1, "RUNNING", created_ms=now, started_ms=now, updated_ms=now + 3_600_000))
    await scene.poll()
    scene.run_job(1, created_ms=now, started_ms=now)
    totals = await scene.poll()
    assert (totals.jobs[TYPE, "RUNNING"], totals.jobs[FAILED], totals.completed[FAILED].value) == (0, 1, 1)


async def test_a_wrong_clock_at_the_first_sync_does_not_make_history_of_the_future(scene: Scene) -> None:
    right_ms = scene.api.now_ms
    scene.api.put(a_job(99, "RUN_FAILED", ended_ms=1_500, updated_ms=1_500))
    scene.api.now_ms = 40_000_000_000
    await scene.poll()
    scene.api.now_ms = right_ms
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    assert (await scene.poll()).completed[FAILED].value == 1


async def test_a_poll_that_cannot_be_recorded_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    await scene.poll()
    scene.run_job(1)
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked"):
        await scene.poll()
    other.close()
    assert (await scene.poll()).completed[FAILED].value == 1


async def test_one_wrong_clock_does_not_end_the_counting(scene: Scene) -> None:
    rules = poll_rules(lookback_ms=1_000_000)
    await scene.poll(rules=rules)
    scene.run_job(1)
    await scene.poll(rules=rules)
    right_ms = scene.api.now_ms
    scene.api.now_ms = 40_000_000_000
    await scene.poll(rules=rules)
    scene.api.now_ms = right_ms + 60_000
    scene.run_job(2)
    await scene.poll(rules=rules)
    totals = await scene.poll(rules=rules)
    assert (totals.jobs[FAILED], totals.completed[FAILED].value) == (2, 2)


async def test_history_that_comes_back_into_scope_is_not_counted_again(scene: Scene) -> None:
    rules = poll_rules(count_history=True)
    scene.run_job(1)
    for job_types in ((), ("SCENARIO_TO_SIM",), (), ()):
        totals = await scene.poll(a_target(job_types=job_types), rules)
    assert totals.completed[FAILED].value == 1


async def test_more_rows_than_were_asked_for_are_kept_too(scene: Scene) -> None:
    jobs = [a_job(job_id) for job_id in range(1, 5_001)]
    await scene.ledger.begin(scene.target)
    await scene.ledger.stage(
        scene.target, jobs, [True] * len(jobs), PageOrigin(FoundBy.WINDOW, 1), scene.rules.counting
    )
    assert (await scene.ledger.staged(scene.target, 1, 1)).in_pass == 5_000


async def test_a_number_beyond_64_bits_fails_the_poll_and_not_the_process(scene: Scene) -> None:
    scene.api.put(a_job(1, running_ms=2**70))
    with pytest.raises(LedgerError):
        await scene.poll()


@pytest.mark.parametrize("statement", [_LISTED_IN_FLIGHT, _COUNT_TERMINAL, _LISTED_TERMINAL])
async def test_a_poll_walks_an_index_and_not_all_that_is_stored(tmp_path: Path, statement: str) -> None:
    await (await SqliteLedger.open(tmp_path / "plan.db")).close()
    db = sqlite3.connect(tmp_path / "plan.db")
    db.execute(STAGING)
    given = {"target": 1, "horizon": 0, "most": 1, "undocumented": 0}
    plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", given))
    db.close()
    assert "USING COVERING INDEX jobs_" in plan or "USING INDEX jobs_" in plan
    assert "staged USING PRIMARY KEY (target=? AND id=?)" in plan


async def test_what_a_poll_has_staged_is_looked_up_among_all_that_is_stored(tmp_path: Path) -> None:
    await (await SqliteLedger.open(tmp_path / "plan.db")).close()
    with closing(sqlite3.connect(tmp_path / "plan.db")) as db:
        db.execute(STAGING)
        given = {"target": 1, "start": 0, "end": 1, "gone": "[]"}
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {_STAGED_BETWEEN}", given))
    assert "SEARCH known USING PRIMARY KEY (target=? AND id=?)" in plan


# -- files ---------------------------------------------------------------------------------------------------


async def opened(path: Path) -> None:
    await (await SqliteLedger.open(path)).close()


async def test_a_ledger_is_in_use_by_one_process(tmp_path: Path) -> None:
    first = await SqliteLedger.open(tmp_path / "ledger.db")
    with pytest.raises(StartError, match="in use by another process"):
        await opened(tmp_path / "ledger.db")
    await first.close()
    await opened(tmp_path / "ledger.db")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no database, but text " * 100, "not an SQLite database"), (b"x", "not a ledger")],
)
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(StartError, match=reason):
        await opened(path)
    assert path.read_bytes() == content


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(StartError, match="not a ledger of octopus-exporter"):
        await opened(path)
    assert path.read_bytes() == content


async def test_a_ledger_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    old = sqlite3.connect(path)
    old.executescript(";".join(MIGRATIONS[0]))
    old.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
    old.execute(
        """
        INSERT INTO targets (project, project_id, workspace, commits, committed_ms, baselines, shown_types)
        VALUES ('perception', 'p1', '0', 3, 900000, '{"*": 500000}', ?)
        """,
        (json.dumps(JOB_TYPES),),
    )
    old.execute("INSERT INTO counters VALUES (1, 'completed', ?, ?, '', 0, 5, NULL)", FAILED)
    old.commit()
    old.close()
    scene = Scene(await SqliteLedger.open(path))
    restored = await scene.ledger.restore(scene.target, scene.rules.counting)
    assert restored is not None
    assert restored.completed[FAILED] == CounterValue(5)
    assert restored.created[TYPE] == CounterValue(0, created_ms=900_000)
    scene.run_job(1)
    totals = await scene.poll()
    assert (totals.completed[FAILED].value, totals.created[TYPE].value) == (6, 1)
    await scene.ledger.close()


async def test_what_an_older_ledger_lists_no_more_and_what_it_invented_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    old = sqlite3.connect(path)
    old.executescript(";".join(statement for version in MIGRATIONS[:2] for statement in version))
    old.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2")
    old.execute(
        """
        INSERT INTO targets (project, project_id, workspace, commits, committed_ms, baselines, shown_types)
        VALUES ('perception', 'p1', '0', 3, 900000, '{"*": 500000}', '{}')
        """
    )
    times = (900_000, 900_000, 900_000, None, 900_000)
    for job_id, status, in_flight, listed in (
        (1, "RUNNING", 0, 0),
        (2, "FINISHED", 0, 0),
        (3, "PONDERING", 0, 0),
        (4, "PONDERING", 1, 1),
    ):
        row = (1, job_id, "INVENTED", status, *times, listed, in_flight)
        old.execute(f"INSERT INTO jobs VALUES ({', '.join('?' * 11)})", row)
    old.execute("INSERT INTO listing VALUES (1, 'INVENTED', 'PONDERING', 1)")
    old.commit()
    old.close()
    scene = Scene(await SqliteLedger.open(path))
    scene.rules = poll_rules(max_job_types=0, max_statuses=0)
    for job_id in range(1, 5):
        fields = {"created_ms": 900_000, "started_ms": 900_000, "job_type": "INVENTED"}
        status = "STOPPED" if job_id in (1, 3) else "FINISHED"
        end_ms = None if job_id == 2 else 1_000_000
        scene.api.put(a_job(job_id, status, updated_ms=1_000_000, ended_ms=end_ms, **fields))
    await scene.poll()
    totals = await scene.poll()
    assert totals.completed["INVENTED", "STOPPED"].value == 2  # 1 and 3 were in flight when they went
    assert totals.completed["INVENTED", "FINISHED"].value == 1  # 4; 2 had ended before
    assert totals.jobs["INVENTED", "PONDERING"] == 0
    await scene.ledger.close()


async def test_a_ledger_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    await opened(path)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    content = path.read_bytes()
    with pytest.raises(StartError, match="schema 99; this one knows"):
        await opened(path)
    assert path.read_bytes() == content


async def test_a_damaged_ledger_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    for job_id in range(1, 400):
        scene.run_job(job_id)
    await scene.poll()
    await scene.ledger.close()
    content = bytearray((tmp_path / "ledger.db").read_bytes())
    content[8192 : len(content) - 4096] = b"\x7f" * (len(content) - 12_288)
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(content)
    with pytest.raises(StartError, match="damaged"):
        await opened(damaged)
    assert damaged.read_bytes() == content
    scene.ledger = await SqliteLedger.open(tmp_path / "ledger.db")


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"the folder {tmp_path}/nowhere does not exist: make it, or change"):
        await opened(tmp_path / "nowhere" / "ledger.db")
    with pytest.raises(StartError, match="Is a directory"):
        await opened(tmp_path)


async def test_a_ledger_in_memory_needs_no_file() -> None:
    ledger = await open_ledger(LedgerSettings(url="sqlite://"))
    assert await ledger.restore(a_target(), poll_rules().counting) is None
    await ledger.close()
