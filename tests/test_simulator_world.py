from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest

from exporter.errors import ConfigError
from exporter.model import JOB_TYPES, TERMINAL_STATUSES, is_failed, is_terminal
from exporter.simulator.lifecycle import DELETED_AFTER_MS, REOPENED_AFTER_MS, plan_soon
from exporter.simulator.profiles import PROFILES
from exporter.simulator.settings import Quirks, SimulatorSettings
from tests.simulated import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, Row, Rows, five_days, rows_of, world_of


@pytest.fixture(scope="module")
def seen() -> list[Rows]:
    return five_days()[1]


def steps(seen: list[Rows]) -> Iterator[tuple[Row, Row]]:
    """Yield every row an hour before and after, as long as its job is listed."""
    for before, after in pairwise(seen):
        yield from ((before[job_id], after[job_id]) for job_id in before.keys() & after.keys())


_WITH_OTHER_STATUSES = """
import exporter.model as model
if {changed}:
    model.IN_FLIGHT_STATUSES = ("PAUSED", *reversed(model.IN_FLIGHT_STATUSES))
    model.STATUSES = (*model.IN_FLIGHT_STATUSES, *model.TERMINAL_STATUSES)
from tests.simulated import DAY_MS, START_MS, rows_of, world_of
world = world_of(jobs=100, jobs_per_day=100)
world.advance(START_MS + DAY_MS)
print(rows_of(world))
"""


def test_the_exporters_statuses_do_not_order_the_life_of_a_job() -> None:
    usual, changed = (
        subprocess.run(
            [sys.executable, "-c", _WITH_OTHER_STATUSES.format(changed=changed)],
            capture_output=True,
            check=True,
        ).stdout
        for changed in (False, True)
    )
    assert b"RUN_FAILED" in usual
    assert changed == usual


def test_the_same_seed_gives_the_same_world_however_often_one_looks() -> None:
    one, other, another = world_of(jobs=200), world_of(jobs=200), world_of(jobs=200, seed=2)
    for now_ms in range(START_MS, START_MS + DAY_MS, 10 * MINUTE_MS):
        one.advance(now_ms)
    for world in (one, other, another):
        world.advance(START_MS + DAY_MS)
    assert rows_of(one) == rows_of(other)
    assert rows_of(one) != rows_of(another)


@pytest.mark.parametrize("jobs", [0, 1, 7, 500])
def test_a_world_starts_with_the_jobs_asked_for(jobs: int) -> None:
    rows = rows_of(world_of(jobs=jobs, projects=("p1", "p2"), workspaces=("0", "1")))
    assert len(rows) == jobs


def test_the_history_goes_back_thirty_days_and_is_densest_near_the_present() -> None:
    ages = [START_MS - row["create_at"] for row in rows_of(world_of(jobs=2000)).values()]
    assert 25 * DAY_MS < max(ages) <= 30 * DAY_MS
    assert sum(age < DAY_MS for age in ages) > 1000


def test_a_world_without_arrivals_stays_without() -> None:
    world = world_of(jobs=0, jobs_per_day=0)
    world.advance(START_MS + 30 * DAY_MS)
    assert rows_of(world) == {}


def test_more_jobs_arrive_by_day_than_by_night() -> None:
    world = world_of(jobs=0, jobs_per_day=500)
    world.advance(START_MS + 20 * DAY_MS)
    hours = Counter(created_ms // HOUR_MS % 24 for created_ms in world.table.created_ms)
    assert sum(hours[hour] for hour in range(3, 9)) > 2 * sum(hours[hour] for hour in range(19, 24))
    assert len(world.table.created_ms) == pytest.approx(20 * 500, rel=0.1)


def test_with_a_pace_jobs_arrive_and_live_so_many_times_as_fast() -> None:
    slow, fast = world_of(jobs=200), world_of(jobs=200, pace=60)
    assert rows_of(slow) == rows_of(fast)
    for world, span_ms in ((slow, DAY_MS), (fast, DAY_MS // 60)):
        world.advance(START_MS + span_ms)
    numbers = []
    for world in (slow, fast):
        ended = [n for n, ms in enumerate(world.table.ended_ms) if ms > START_MS and n >= 200]
        lasted_ms = [world.table.ended_ms[n] - world.table.created_ms[n] for n in ended]
        numbers.append((len(world.table.status) - 200, sum(lasted_ms) / len(ended)))
        assert max(*world.table.created_ms, *world.table.ended_ms) <= world.now_ms
    (arrived, lasted), (arrived_fast, lasted_fast) = numbers
    assert arrived_fast == pytest.approx(arrived, rel=0.5)
    assert lasted / 120 < lasted_fast < lasted / 30


def test_with_a_pace_of_nothing_nothing_happens() -> None:
    world = world_of(jobs=200, pace=0)
    before = rows_of(world)
    world.advance(START_MS + DAY_MS)
    assert rows_of(world) == before


@pytest.mark.parametrize("profile", ["calm", "bursty"])
def test_ids_ascend_with_creation(profile: str) -> None:
    created = list(five_days(profile)[0].table.created_ms)
    assert created == sorted(created)


def test_every_type_and_every_end_comes_to_pass() -> None:
    rows = rows_of(world_of(jobs=3000)).values()
    ends = Counter(row["status"] for row in rows)
    assert {row["job_type"] for row in rows} == set(JOB_TYPES)
    assert set(TERMINAL_STATUSES) <= set(ends)
    assert ends["FINISHED"] > 0.8 * len(rows)


def test_a_rows_times_fit_its_status(seen: list[Rows]) -> None:
    for row in (row for rows in seen for row in rows.values()):
        assert ("end_at" in row) == is_terminal(row["status"])
        assert ("running_duration" in row) == ("start_at" in row and "end_at" in row)
        assert ("submitting_duration" in row) == ("start_at" in row)
        if row["status"] in {"RUNNING", "UPLOADING", "FINISHED", "RUN_FAILED", "UPLOAD_FAILED"}:
            assert "start_at" in row
        if row["status"] in {"QUEUING", "LAUNCHING", "SUBMIT_FAILED"}:
            assert "start_at" not in row
        if "msg_code" in row:
            assert is_failed(row["status"])
            assert row["msg_error"]


def test_a_rows_times_are_in_order(seen: list[Rows]) -> None:
    for row in (row for rows in seen for row in rows.values()):
        times = [row[name] for name in ("create_at", "start_at", "end_at", "update_at") if name in row]
        assert times == sorted(times)
        if "running_duration" in row:
            assert row["running_duration"] == row["end_at"] - row["start_at"] > 0


def test_every_change_moves_the_update_time_forward(seen: list[Rows]) -> None:
    changes = [(before, after) for before, after in steps(seen) if before != after]
    assert len(changes) > 300
    assert all(after["update_at"] > before["update_at"] for before, after in changes)


def test_a_finished_job_may_be_touched_without_a_new_run(seen: list[Rows]) -> None:
    touched = [
        (before, after)
        for before, after in steps(seen)
        if before != after and before.get("end_at", 0) == after.get("end_at")
    ]
    assert len(touched) > 20
    assert all({**before, "update_at": 0} == {**after, "update_at": 0} for before, after in touched)


def test_a_job_is_reopened_no_sooner_than_two_hours_after_its_end(seen: list[Rows]) -> None:
    waits = [
        after["update_at"] - before["end_at"]
        for before, after in steps(seen)
        if "end_at" in before and before["end_at"] != after.get("end_at")
    ]
    assert len(waits) > 10
    assert min(waits) >= REOPENED_AFTER_MS


def test_a_reopened_job_counts_its_waiting_from_the_reopening(seen: list[Rows]) -> None:
    submitted = [
        (row["create_at"], row["start_at"] - row["submitting_duration"])
        for rows in seen
        for row in rows.values()
        if "start_at" in row
    ]
    again = [at_ms - created_ms for created_ms, at_ms in submitted if at_ms != created_ms]
    assert again
    assert min(again) >= REOPENED_AFTER_MS


def test_a_job_is_deleted_no_sooner_than_a_day_after_its_end(seen: list[Rows]) -> None:
    ages = [
        START_MS + hour * HOUR_MS - before[job_id]["end_at"]
        for hour, (before, after) in enumerate(pairwise(seen), 1)
        for job_id in before.keys() - after.keys()
    ]
    assert len(ages) > 20
    assert min(ages) >= DELETED_AFTER_MS


def test_a_job_deleted_out_of_turn_stays_deleted_whatever_awaited_it() -> None:
    world = world_of(jobs=300, jobs_per_day=0)
    for _ in range(250):
        world.delete_one(0)
    left = set(rows_of(world))
    assert len(left) < 200
    world.advance(START_MS + 30 * DAY_MS)
    assert set(rows_of(world)) < left
    assert sum(jobs for *_, jobs in world.listings[0].counts()) == len(world.listings[0].all_ids)


class LowestLots(Random):
    """Every lot is the lowest there is."""

    def random(self) -> float:
        return 0.0


@pytest.mark.parametrize("outcome", TERMINAL_STATUSES)
def test_the_steps_of_a_run_come_one_after_the_other_however_short_it_is(outcome: str) -> None:
    for seed in range(20):
        run = plan_soon(LowestLots(seed), PROFILES[0], START_MS, outcome, None)
        times = [START_MS, *run.times_ms]
        assert all(before < after for before, after in pairwise(times))


def test_injected_failures_fail_soon_with_the_code_given() -> None:
    world = world_of(jobs=0, jobs_per_day=0)
    ids = world.inject(0, "FRAME_EXTRACT", 50, "RUN_FAILED", 3001)
    world.advance(START_MS + 5 * MINUTE_MS)
    rows = rows_of(world)
    assert {(rows[n]["status"], rows[n]["msg_code"]) for n in ids} == {("RUN_FAILED", 3001)}
    assert len(rows) == 50


@pytest.mark.parametrize("status", ["QUEUING", "LAUNCHING", "RUNNING", "UPLOADING", "PAUSED"])
def test_an_injected_job_can_stay_in_flight_for_good(status: str) -> None:
    world = world_of(jobs=0, jobs_per_day=0)
    world.inject(0, "TIME_TRAVEL", 1, status, None)
    world.advance(START_MS + 30 * DAY_MS)
    (row,) = rows_of(world).values()
    assert (row["job_type"], row["status"]) == ("TIME_TRAVEL", status)
    has_started = status in {"RUNNING", "UPLOADING", "PAUSED"}
    assert ("start_at" in row) == has_started
    (target,) = world.account.targets(world.listings, START_MS, world.now_ms)
    assert (target["started"], target["ended"]) == ({"TIME_TRAVEL": 1} if has_started else {}, {})


def test_settings_that_cannot_be_used_are_all_named() -> None:
    with pytest.raises(ConfigError) as raised:
        SimulatorSettings(jobs=-1, speed=float("nan"), projects=(), order="up")  # type: ignore[arg-type]
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "jobs",
        "speed",
        "projects",
        "order",
    ]


def test_quirks_that_cannot_be_used_are_all_named() -> None:
    with pytest.raises(ConfigError) as raised:
        Quirks(clamp_limit=0, shift_every=0)
    assert str(raised.value) == (
        "quirks.clamp_limit: 0: expected a number of 1 or more\n"
        "quirks.shift_every: 0: expected a number of 1 or more"
    )


def test_no_job_runs_again_where_none_is_to() -> None:
    world, other = (world_of(jobs=300, jobs_per_day=250, reopening=reopening) for reopening in (False, True))
    for one in (world, other):
        one.advance(START_MS + 30 * DAY_MS)
    reopened = [
        [job for job, at in enumerate(one.table.submitted_ms) if at != one.table.created_ms[job]]
        for one in (world, other)
    ]
    assert not reopened[0]
    assert reopened[1]
