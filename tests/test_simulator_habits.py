"""Batches that share their fate, retries, timetables, weekends and drift in the simulator's jobs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import log, sqrt
from random import Random
from statistics import fmean, pvariance, stdev

import pytest

from exporter.model import JOB_TYPES, is_failed
from exporter.simulator.arrivals import Users, Walk
from exporter.simulator.profiles import PROFILE_SETS, PROFILES, Habits, Profile
from exporter.simulator.world import World
from tests.simulated import DAY_MS, HOUR_MS, MINUTE_MS, START_MS, rows_of, world_of

SETS = ("calm", "even", "bursty")
# START_MS is a Sunday; 1970-01-01 was a Thursday.
SATURDAY, SUNDAY = 2, 3


def usual_share(profile: Profile) -> float:
    return sum(part for status, part in profile.outcomes.items() if is_failed(status))


def with_habits(**habits: object) -> Profile:
    """Give a type that fails in 12 of 100 runs, with these habits."""
    profile = next(one for one in PROFILE_SETS["even"] if one.job_type == "SCENARIO_AUTO_MINING")
    return replace(profile, habits=Habits(**habits))  # type: ignore[arg-type]


def users_of(profile: Profile, per_day: float = 2000) -> Users:
    return Users({profile.job_type: per_day}, None)


@cache
def four_weeks(profile: str) -> World:
    world = world_of(jobs=500, jobs_per_day=600, profile=profile, reopening=False)
    world.advance(START_MS + 28 * DAY_MS)
    return world


def created(world: World, job_type: str | None = None) -> list[int]:
    """Give when the jobs that arrived live were created, of one type or all."""
    table = world.table
    return [
        created_ms
        for created_ms, number in zip(table.created_ms, table.job_type, strict=True)
        if created_ms > START_MS and job_type in (None, table.types[number])
    ]


def failed_of(world: World, job_type: str) -> list[bool]:
    """Tell of each ended run of a type, in the order of creation, whether it failed."""
    table = world.table
    return [
        is_failed(table.statuses[status])
        for status, number, ended_ms in zip(table.status, table.job_type, table.ended_ms, strict=True)
        if ended_ms and table.types[number] == job_type
    ]


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_all_documented_types_and_outcomes_that_add_up(name: str) -> None:
    profiles = PROFILE_SETS[name]
    assert set(JOB_TYPES) <= {profile.job_type for profile in profiles}
    for profile in profiles:
        assert sum(profile.outcomes.values()) == pytest.approx(1)
        assert usual_share(profile) <= 0.3 + 1e-9


def test_calm_is_the_default() -> None:
    assert PROFILE_SETS["calm"] is PROFILES
    assert rows_of(world_of(jobs=50)) == rows_of(world_of(jobs=50, profile="calm"))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("jobs", [0, 1, 7, 500])
def test_every_set_starts_with_the_jobs_asked_for(name: str, jobs: int) -> None:
    world = world_of(jobs=jobs, profile=name, projects=("p1", "p2"), workspaces=("0", "1"))
    assert len(world.table.created_ms) == jobs
    assert list(world.table.created_ms) == sorted(world.table.created_ms)
    ages_ms = [START_MS - created_ms for created_ms in world.table.created_ms]
    assert all(0 <= age_ms <= 30 * DAY_MS for age_ms in ages_ms)


@pytest.mark.parametrize("pace", [1.0, 60.0])
def test_a_bursty_world_is_the_same_however_often_one_looks(pace: float) -> None:
    one, other, another = (world_of(jobs=200, profile="bursty", pace=pace, seed=seed) for seed in (1, 1, 2))
    span_ms = int(DAY_MS / pace)
    for now_ms in range(START_MS, START_MS + span_ms, span_ms // 50):
        one.advance(now_ms)
    for world in (one, other, another):
        world.advance(START_MS + span_ms)
    assert rows_of(one) == rows_of(other)
    assert rows_of(one) != rows_of(another)


def test_a_bursty_world_without_arrivals_and_history_stays_without() -> None:
    world = world_of(jobs=0, jobs_per_day=0, profile="bursty")
    world.advance(START_MS + 5 * DAY_MS)
    assert rows_of(world) == {}


def test_with_a_pace_of_nothing_nothing_happens_in_a_bursty_world() -> None:
    world = world_of(jobs=200, pace=0, profile="bursty")
    before = rows_of(world)
    world.advance(START_MS + DAY_MS)
    assert rows_of(world) == before


@pytest.mark.parametrize("profile", PROFILE_SETS["even"], ids=lambda profile: profile.job_type)
def test_in_an_even_world_each_type_fails_at_its_share(profile: Profile) -> None:
    failed = failed_of(four_weeks("even"), profile.job_type)
    share = usual_share(profile)
    assert abs(fmean(failed) - share) < 4 * sqrt(share * (1 - share) / len(failed))


@pytest.mark.parametrize(("correlation", "dispersion"), [(0.0, 1.0), (0.04, 1 + 49 * 0.04)])
def test_the_failures_of_a_batch_are_beta_binomial(correlation: float, dispersion: float) -> None:
    profile = with_habits(batched=1.0, batch_jobs=(50, 50), correlation=correlation)
    users, rng, share = users_of(profile), Random(1), usual_share(profile)
    failures = [
        sum(is_failed(users.live(rng, one)[0].last) for one in users.submit(rng, profile, START_MS))
        for _ in range(3000)
    ]
    assert fmean(failures) == pytest.approx(50 * share, rel=0.04)
    assert pvariance(failures) == pytest.approx(50 * share * (1 - share) * dispersion, rel=0.1)


@pytest.mark.parametrize(("per_day", "most"), [(2000, 100), (20, 20), (1, 5)])
def test_half_of_the_jobs_come_in_batches_no_greater_than_a_day(per_day: float, most: int) -> None:
    profile = with_habits(batched=0.5)
    users, rng = users_of(profile, per_day), Random(1)
    sizes = [len(users.submit(rng, profile, START_MS)) for _ in range(20_000)]
    batches = [size for size in sizes if size > 1]
    assert sum(batches) / sum(sizes) == pytest.approx(0.5, abs=0.04)
    assert (min(batches), max(batches)) == (5, most)
    assert len(sizes) / sum(sizes) == pytest.approx(users.submissions_per_job(profile), rel=0.05)


def test_a_batch_comes_within_minutes_and_its_later_jobs_wait_for_the_first() -> None:
    profile = with_habits(batched=1.0, batch_jobs=(100, 100))
    batch = users_of(profile).submit(Random(1), profile, START_MS)
    times = [one.at_ms for one in batch]
    assert times == sorted(times)
    assert (times[0], times[-1] <= START_MS + 3 * MINUTE_MS) == (START_MS, True)
    assert [one.wait_ms for one in batch] == sorted(one.wait_ms for one in batch)
    assert batch[-1].wait_ms == pytest.approx(5 * profile.run.median_ms, rel=0.02)


def test_a_failed_job_is_retried_as_a_new_one_that_fails_more_often() -> None:
    profile = with_habits(retried=0.5)
    users, rng = users_of(profile), Random(1)
    lives = [users.live(rng, users.single(profile, START_MS)) for _ in range(20_000)]
    failed = [(run, again) for run, again in lives if is_failed(run.last)]
    retries = [(run, again) for run, again in failed if again is not None]
    assert len(retries) / len(failed) == pytest.approx(0.5, abs=0.05)
    assert all(again is None for run, again in lives if not is_failed(run.last))
    waits = [again.at_ms - run.times_ms[-1] for run, again in retries]
    assert min(waits) >= 10 * MINUTE_MS
    assert max(waits) <= 60 * MINUTE_MS
    # Two in five have a broken input, of which four in five fail again.
    seconds = [(run, users.live(rng, again)[0]) for run, again in retries]
    expected = 0.4 * 0.8 + 0.6 * usual_share(profile)
    assert fmean(is_failed(second.last) for _, second in seconds) == pytest.approx(expected, abs=0.05)


def test_a_broken_input_fails_again_with_the_same_code() -> None:
    profile = with_habits(retried=1.0, broken=1.0, broken_fails=1.0)
    users, rng = users_of(profile), Random(1)
    submission = users.single(profile, START_MS)._replace(outcomes={"RUN_FAILED": 1.0})
    ends = set()
    for _ in range(5):
        run, again = users.live(rng, submission)
        ends.add((run.last, run.msg_code))
        assert again is not None
        submission = again
    assert len(ends) == 1


def test_the_failures_of_a_bursty_world_are_bunched_and_those_of_an_even_one_are_not() -> None:
    """Failures among a hundred jobs created one after the other, against what chance would give."""
    dispersion = {}
    for name in ("even", "bursty"):
        failed = failed_of(four_weeks(name), "SCENARIO_AUTO_MINING")
        counts = [sum(failed[n : n + 100]) for n in range(0, len(failed) - 100, 100)]
        share = fmean(failed)
        dispersion[name] = pvariance(counts) / (100 * share * (1 - share))
    assert dispersion["even"] < 1.7
    assert dispersion["bursty"] > 2.0


def test_weekends_are_quieter_in_a_bursty_world_only() -> None:
    parts = {}
    for name in SETS:
        days = Counter(at_ms // DAY_MS for at_ms in created(four_weeks(name)))
        whole = list(range(START_MS // DAY_MS + 1, START_MS // DAY_MS + 28))
        weekend = fmean(days[day] for day in whole if day % 7 in (SATURDAY, SUNDAY))
        parts[name] = weekend / fmean(days[day] for day in whole if day % 7 not in (SATURDAY, SUNDAY))
    assert parts["calm"] == pytest.approx(1, abs=0.06)
    assert parts["even"] == pytest.approx(1, abs=0.06)
    assert 0.25 < parts["bursty"] < 0.6


def test_a_new_type_comes_on_the_second_day() -> None:
    times = created(four_weeks("bursty"), "REPLAY_SIMULATION")
    assert START_MS + 2 * DAY_MS <= min(times) < START_MS + 4 * DAY_MS
    history = rows_of(world_of(jobs=2000, profile="bursty")).values()
    assert "REPLAY_SIMULATION" not in {row["job_type"] for row in history}


@pytest.mark.parametrize("name", ["even", "bursty"])
def test_a_slow_type_runs_three_times_a_day(name: str) -> None:
    retried = sum(failed_of(four_weeks(name), "MAP_UPDATE")) if name == "bursty" else 0
    times = created(four_weeks(name), "MAP_UPDATE")
    assert 28 * 3 <= len(times) <= 28 * 3 + retried
    assert {at_ms // HOUR_MS % 24 for at_ms in times} >= {3, 11, 19}


@pytest.mark.parametrize("name", ["even", "bursty"])
def test_day_long_jobs_are_always_under_way(name: str) -> None:
    world = world_of(jobs=2000, profile=name)
    running = [row for row in rows_of(world).values() if row["job_type"] == "MODEL_TRAINING"]
    assert sum(row["status"] == "RUNNING" for row in running) >= 3
    lasted = [row["running_duration"] for row in running if row["status"] == "FINISHED"]
    assert 0.8 * DAY_MS < fmean(lasted) < 1.2 * DAY_MS


def test_a_batch_comes_every_night_at_weekends_too() -> None:
    minutes = Counter(
        at_ms // DAY_MS
        for at_ms in created(four_weeks("bursty"), "FRAME_EXTRACT")
        if 0 <= at_ms % DAY_MS - 18 * HOUR_MS < 3 * MINUTE_MS
    )
    # A fifth of its part of 600 jobs a day.
    profiles = PROFILE_SETS["bursty"]
    share = next(one.share for one in profiles if one.job_type == "FRAME_EXTRACT")
    nightly = round(0.2 * 600 * share / sum(one.share for one in profiles))
    assert len(minutes) == 28
    assert min(minutes.values()) >= nightly


def test_the_nightly_batch_is_in_the_history_as_it_is_live() -> None:
    table = world_of(jobs=20_000, profile="bursty").table
    times = [
        created_ms
        for created_ms, number in zip(table.created_ms, table.job_type, strict=True)
        if table.types[number] == "FRAME_EXTRACT" and START_MS - created_ms < 4 * DAY_MS
    ]
    nightly = [at_ms for at_ms in times if 0 <= at_ms % DAY_MS - 18 * HOUR_MS < 3 * MINUTE_MS]
    assert len({at_ms // DAY_MS for at_ms in nightly}) == 4
    assert len(nightly) > 0.1 * len(times)


def test_drift_walks_from_day_to_day_within_limits_and_in_any_order() -> None:
    walk, backwards = (Walk("one", 0.15, 20_000) for _ in range(2))
    factors = [walk.on(day) for day in range(20_000, 20_400)]
    assert [backwards.on(day) for day in reversed(range(20_000, 20_400))] == factors[::-1]
    assert 0.5 <= min(factors) < 0.8
    assert 1.25 < max(factors) <= 2
    assert stdev(log(after / before) for before, after in pairwise(factors)) == pytest.approx(0.15, rel=0.15)
    assert walk.on(19_000) == 1
    assert Walk("one", 0.0, 20_000).on(20_100) == 1
