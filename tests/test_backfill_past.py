"""What the past counts and what live counting counts: together every run once, and none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.backfill.past import Past, PastKind, counted_at
from exporter.backfill.plan import LiveCounting, TargetPlan
from exporter.counting.increments import Increments
from exporter.counting.transitions import Baseline, Baselines, KnownJob, transition
from exporter.model import Job, is_failed
from tests.fake_api import a_target
from tests.past_jobs import DAY_MS, RULES, START_MS, a_past, a_run

BASELINE_MS = START_MS + 10_000
LATER_MS = START_MS + 20_000
WHENEVER = st.integers(1, 20_000)
TYPES = ("FRAME_EXTRACT", "SCENARIO_TO_SIM")

Life = list[tuple[int, Job]]


@st.composite
def lives(draw: st.DrawFn, lag_ms: int, runs: int) -> list[Life]:
    """
    Jobs as the API shows them over time: each row and since when it is listed.

    A row is written `lag_ms` after the end of its run. Times are odd, polls and the baseline are even.
    """
    return [_life(draw, job_id, lag_ms, runs) for job_id in range(draw(st.integers(1, 8)))]


def _life(draw: st.DrawFn, job_id: int, lag_ms: int, runs: int) -> Life:
    times = sorted(draw(st.lists(WHENEVER, min_size=1, max_size=1 + 2 * runs)))
    created_ms, *rest = [START_MS + 2 * time - 20_001 for time in times]
    given = {
        "job_type": draw(st.sampled_from(TYPES)),
        "msg_code": draw(st.sampled_from(["", "3001"])),
        "resource_spec": draw(st.sampled_from(["", "2Core_4GiB", "odd"])),
    }

    def row(at_ms: int, status: str, **fields: int) -> tuple[int, Job]:
        return at_ms, Job(
            id=job_id, status=status, created_ms=created_ms, updated_ms=at_ms, **(given | fields)
        )

    life, since_ms = [row(created_ms, "QUEUING")], created_ms
    for number, at_ms in enumerate(rest):
        if number % 2 == 0:
            life.append(row(at_ms, "RUNNING", started_ms=max(at_ms, since_ms)))
        else:
            status = draw(st.sampled_from(["FINISHED", "RUN_FAILED"]))
            since_ms = at_ms + lag_ms
            started_ms = life[-1][1].started_ms or created_ms
            life.append(row(since_ms, status, started_ms=started_ms, ended_ms=at_ms))
    return life


def row_at(life: Life, at_ms: int) -> Job | None:
    return next((job for since_ms, job in reversed(life) if since_ms <= at_ms), None)


def counts(increments: Increments) -> dict[object, object]:
    """Give what was added, without exemplars."""
    return {
        **{key: value.value for key, value in increments.counters.items()},
        **{key: value.value for key, value in increments.resource_seconds.items()},
        **{key: (value.counts, value.sum_ms) for key, value in increments.histograms.items()},
    }


def live(found: Iterable[Life], polls: list[int], increments: Increments) -> frozenset[int]:
    """Count as the exporter does from its first poll on; name the jobs that ran again."""
    known: dict[int, KnownJob] = {}
    for number, at_ms in enumerate([BASELINE_MS, *polls]):
        baselines = Baselines({"*": BASELINE_MS}, None, at_ms, is_first_sync=number == 0)
        for job in filter(None, (row_at(life, at_ms) for life in found)):
            change = transition(known.get(job.id), job, baselines.of(job.job_type))
            if change is not None:
                increments.add(job, change, failed=is_failed(job.status))
                known[job.id] = change.known
    return frozenset(
        job_id
        for job_id, one in known.items()
        if one.created_ms < BASELINE_MS and one.runs > 0 and (one.in_flight or one.runs > 1)
    )


def add_past(found: Iterable[Life], past: Past, increments: Increments) -> Counter[PastKind]:
    kinds: Counter[PastKind] = Counter()
    for job in filter(None, (row_at(life, LATER_MS * 2) for life in found)):
        before_ms = 0
        for moment in past.moments(job):
            assert before_ms <= moment.at_ms < BASELINE_MS
            before_ms = moment.at_ms
            if moment.counted:
                kinds[moment.kind] += 1
                increments.add(job, counted_at(job, moment.kind), failed=is_failed(job.status))
    return kinds


@pytest.mark.parametrize("lag_ms", [0, 600])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_past_and_the_live_counters_are_all_runs(lag_ms: int, data: st.DataObject) -> None:
    found = data.draw(lives(lag_ms, runs=1))
    polls = sorted(data.draw(st.lists(WHENEVER, max_size=4)))
    increments = Increments(RULES, (), ())
    live(found, [*(BASELINE_MS + 2 * time for time in polls), LATER_MS * 2], increments)
    add_past(found, Past(a_past(BASELINE_MS, from_ms=START_MS - DAY_MS), None, lag_ms), increments)

    every = Increments(RULES, (), ())
    for job in (life[-1][1] for life in found):
        change = transition(None, job, Baseline(None))
        assert change is not None
        every.add(job, change, failed=is_failed(job.status))
    assert counts(increments) == counts(every)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_job_that_runs_again_counts_no_run_twice(data: st.DataObject) -> None:
    found = data.draw(lives(0, runs=3))
    polls = sorted(data.draw(st.lists(WHENEVER, max_size=6)))
    increments = Increments(RULES, (), ())
    ran_again = live(found, [*(BASELINE_MS + 2 * time for time in polls), LATER_MS * 2], increments)
    plan = a_past(BASELINE_MS, from_ms=START_MS - DAY_MS, ran_again=ran_again)
    past = Past(plan, None)
    add_past(found, past, increments)

    created, ended = Counter[str](), Counter[tuple[str, str]]()
    started = Counter[str]()
    for life in found:
        created[life[0][1].job_type] += 1
        for _, job in life:
            started[job.job_type] += job.status == "RUNNING"
            ended[job.job_type, job.status] += job.has_ended
    counted: Counter[tuple[str, str]] = Counter()
    for key, value in increments.counters.items():
        if key.family == "created":
            assert value.value == created.pop(key.job_type)
        if key.family == "completed":
            counted[key.job_type, key.status] = value.value
    assert not created
    assert counted <= ended
    for key, histogram in increments.histograms.items():
        if key.family == "submitting":
            assert sum(histogram.counts) <= started[key.job_type]


def moments(job: Job, past: Past) -> list[tuple[str, int, bool, bool]]:
    return [(one.kind.name, one.at_ms - START_MS, one.counted, one.shown) for one in past.moments(job)]


def test_a_run_of_the_past_is_counted_when_it_happened() -> None:
    job = a_run(1, START_MS + 1_000, waited_ms=2_000, ran_ms=3_000)
    assert moments(job, Past(a_past(BASELINE_MS), 8_000)) == [
        ("CREATED", 1_000, True, True),
        ("STARTED", 3_000, True, True),
        ("ENDED", 6_000, True, True),
        ("FORGOTTEN", 9_000, False, True),
    ]


def test_times_are_by_our_own_clock() -> None:
    job = a_run(1, START_MS + 1_000, waited_ms=2_000, ran_ms=3_000)
    past = Past(a_past(BASELINE_MS, rows_ahead_ms=500), None)
    assert [at_ms for _, at_ms, *_ in moments(job, past)] == [500, 2_500, 5_500]


def test_a_job_in_flight_at_the_baseline_is_shown_until_the_live_series_begin() -> None:
    job = a_run(1, START_MS + 9_000, waited_ms=500, ran_ms=2_000)
    past = Past(a_past(BASELINE_MS, until_ms=BASELINE_MS + 5_000), None)
    assert moments(job, past) == [
        ("CREATED", 9_000, True, True),
        ("STARTED", 9_500, True, True),
        ("ENDED", 11_500, False, True),
    ]
    assert past.left_out.counted_late == 0


def test_what_was_before_the_past_begins_is_shown_and_not_counted() -> None:
    job = a_run(1, START_MS - 1_000, waited_ms=500, ran_ms=2_000)
    assert moments(job, Past(a_past(BASELINE_MS), None)) == [
        ("CREATED", 0, False, True),
        ("STARTED", 0, False, True),
        ("ENDED", 1_500, True, True),
    ]


def test_a_job_that_has_run_again_is_created_and_not_shown() -> None:
    job = a_run(1, START_MS + 1_000, waited_ms=50_000)
    past = Past(a_past(BASELINE_MS, ran_again=frozenset({1})), None)
    assert moments(job, past) == [("CREATED", 1_000, True, False)]
    assert past.left_out.ran_again == 1


def test_a_run_whose_row_was_late_was_counted_live() -> None:
    late = a_run(1, START_MS + 1_000, ran_ms=3_500, updated_ms=BASELINE_MS + 100)
    touched = a_run(2, START_MS + 1_000, ran_ms=3_500, updated_ms=BASELINE_MS + 5_000)
    past = Past(a_past(BASELINE_MS), None, lag_ms=1_000)
    assert [one for one in moments(late, past) if one[0] == "ENDED"] == [("ENDED", 9_500, False, True)]
    assert [one for one in moments(touched, past) if one[0] == "ENDED"] == [("ENDED", 9_500, True, True)]
    assert past.left_out.counted_late == 1


def test_times_that_contradict_each_other_are_put_in_order() -> None:
    job = a_run(1, START_MS + 5_000, started_ms=START_MS + 4_000, ended_ms=START_MS + 3_000)
    past = Past(a_past(BASELINE_MS), None)
    assert [at_ms for _, at_ms, *_ in moments(job, past)] == [5_000, 5_000, 5_000]


def test_nothing_is_left_out_where_history_was_counted() -> None:
    plan = a_past(None, until_ms=BASELINE_MS)
    assert not any(counted for *_, counted, _ in moments(a_run(1, START_MS + 1_000), Past(plan, None)))


def test_what_comes_after_the_first_live_sample_is_told() -> None:
    past = Past(a_past(START_MS + DAY_MS, until_ms=START_MS + DAY_MS // 2), None)
    assert moments(a_run(1, START_MS + DAY_MS - 600_000), past) == []
    assert past.left_out.late == 3


def test_a_type_that_came_into_scope_later_ends_with_the_first() -> None:
    baselines = Baselines({"FRAME_EXTRACT": START_MS + DAY_MS, "SCENARIO_TO_SIM": BASELINE_MS}, None)
    live = LiveCounting(baselines, rows_ahead_ms=0)
    assert live.baseline_ms == BASELINE_MS
    past = Past(TargetPlan(a_target(), live, {}, START_MS, BASELINE_MS), None)
    early, late = a_run(1, START_MS + 1_000, ran_ms=1_000), a_run(2, START_MS + DAY_MS // 2)
    assert all(counted for *_, counted, _ in moments(early, past))
    assert moments(late, past) == []
    assert past.left_out.late == 3
