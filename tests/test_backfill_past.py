"""What the past counts and what live counting counts: together every run once, and none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

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
def lives(draw: st.DrawFn, runs: int) -> list[Life]:
    """
    Jobs as the API shows them over time: each row and since when it is listed.

    A row is written some time after what it tells, and may be written once more. Some never have an end time.
    Times are odd, polls and the baseline are even.
    """
    return [_life(draw, job_id, runs) for job_id in range(draw(st.integers(1, 8)))]


def _life(draw: st.DrawFn, job_id: int, runs: int) -> Life:
    times = sorted(draw(st.lists(WHENEVER, min_size=1, max_size=1 + 2 * runs)))
    created_ms, *rest = [START_MS + 2 * time - 20_001 for time in times]
    given = {
        "job_type": draw(st.sampled_from(TYPES)),
        "msg_code": draw(st.sampled_from(["", "3001"])),
        "resource_spec": draw(st.sampled_from(["", "2Core_4GiB", "odd"])),
    }

    life: Life = []

    def add(at_ms: int, status: str, **fields: int | None) -> None:
        since_ms = max([at_ms + 2 * draw(st.sampled_from([0, 0, 1, 300, 5_000])), *(at for at, _ in life)])
        times = {"created_ms": created_ms, "updated_ms": since_ms}
        life.append((since_ms, Job(id=job_id, status=status, **(times | given | fields))))

    add(created_ms, "QUEUING")
    started_ms = created_ms
    for number, at_ms in enumerate(rest):
        if number % 2 == 0:
            started_ms = at_ms
            add(at_ms, "RUNNING", started_ms=started_ms)
        else:
            status = draw(st.sampled_from(["FINISHED", "RUN_FAILED"]))
            ended_ms = draw(st.sampled_from([at_ms, at_ms, None]))
            add(at_ms, status, started_ms=started_ms, ended_ms=ended_ms)
    if draw(st.booleans()):
        since_ms, job = life[-1]
        life.append((since_ms + 6_000, replace(job, updated_ms=since_ms + 6_000)))
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


def live(found: Iterable[Life], polls: list[int], read_ms: int, increments: Increments) -> TargetPlan:
    """Count as the exporter does from its first poll on; plan what its ledger told at `read_ms`."""
    known: dict[int, KnownJob] = {}
    told: dict[int, KnownJob] = {}
    for number, at_ms in enumerate([BASELINE_MS, *polls]):
        baselines = Baselines({"*": BASELINE_MS}, None, at_ms, is_first_sync=number == 0)
        for job in filter(None, (row_at(life, at_ms) for life in found)):
            change = transition(known.get(job.id), job, baselines.of(job.job_type))
            if change is not None:
                increments.add(job, change, failed=is_failed(job.status))
                known[job.id] = change.known
        if number == 0 or at_ms <= read_ms:
            told = dict(known)
    before = {job_id: one for job_id, one in told.items() if one.created_ms < BASELINE_MS}

    def ids(chosen: Callable[[KnownJob], bool]) -> frozenset[int]:
        return frozenset(job_id for job_id, one in before.items() if chosen(one))

    return a_past(
        BASELINE_MS,
        from_ms=START_MS - DAY_MS,
        ran_again=ids(lambda one: one.runs > 0 and (one.in_flight or one.runs > 1)),
        counted_starts=ids(lambda one: one.start_counted or (one.in_flight and one.counted_start_ms is None)),
        counted_ends=ids(lambda one: one.end_counted or one.in_flight),
        history_ends=frozenset(
            (job_id, before[job_id].counted_start_ms)
            for job_id in ids(lambda one: not (one.in_flight or one.end_counted or one.ended_ms))
        ),
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


POLLS = st.lists(WHENEVER.map(lambda time: BASELINE_MS + 2 * time), max_size=6).map(sorted)


@settings(max_examples=150, deadline=None)
@given(found=lives(runs=1), polls=POLLS, read_ms=WHENEVER.map(lambda time: BASELINE_MS + 2 * time))
def test_the_past_and_the_live_counters_are_all_runs(
    found: list[Life], polls: list[int], read_ms: int
) -> None:
    increments = Increments(RULES, frozenset, frozenset)
    plan = live(found, [*polls, LATER_MS * 2], read_ms, increments)
    add_past(found, Past(plan, None), increments)

    every = Increments(RULES, frozenset, frozenset)
    for job in (life[-1][1] for life in found):
        change = transition(None, job, Baseline(None))
        assert change is not None
        every.add(job, change, failed=is_failed(job.status))
    assert counts(increments) == counts(every)


@settings(max_examples=150, deadline=None)
@given(found=lives(runs=3), polls=POLLS, read_ms=WHENEVER.map(lambda time: BASELINE_MS + 2 * time))
def test_a_job_that_runs_again_counts_no_run_twice(found: list[Life], polls: list[int], read_ms: int) -> None:
    increments = Increments(RULES, frozenset, frozenset)
    plan = live(found, [*polls, LATER_MS * 2], read_ms, increments)
    add_past(found, Past(plan, None), increments)

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


def test_what_the_ledger_has_counted_is_not_of_the_past() -> None:
    run = a_run(1, START_MS + 1_000, ran_ms=3_500, updated_ms=BASELINE_MS + 100)
    for live, counted in (
        ({}, "CSE"),
        ({"counted_starts": frozenset({1})}, "CE"),
        ({"counted_ends": frozenset({1})}, "CS"),
    ):
        past = Past(a_past(BASELINE_MS, **live), None, lag_ms=1_000)
        assert "".join(kind[0] for kind, _, counts, _ in moments(run, past) if counts) == counted
        assert (past.left_out.counted_late, past.left_out.started_late) == (0, 0)


def test_where_the_ledger_does_not_tell_a_late_row_shows_it() -> None:
    late = a_run(1, START_MS + 1_000, ran_ms=3_500, updated_ms=BASELINE_MS + 100)
    touched = a_run(2, START_MS + 1_000, ran_ms=3_500, updated_ms=BASELINE_MS + 5_000)
    started = a_run(3, START_MS + 9_000, waited_ms=500, ran_ms=2_000)
    past = Past(a_past(BASELINE_MS, tells_from_ms=BASELINE_MS), None, lag_ms=1_000)
    assert ("STARTED", 9_500, True, True) in moments(started, past)
    assert past.left_out.started_late == 1
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


def test_what_a_history_that_is_loaded_has_is_not_missing() -> None:
    past = Past(a_past(START_MS + DAY_MS, until_ms=START_MS + DAY_MS // 2), None)
    assert moments(a_run(1, START_MS + DAY_MS - 600_000), past) == []
    assert past.left_out.late == 0


def test_what_another_ledger_has_counted_is_not_of_the_past() -> None:
    """The live series begin before the first poll that this ledger knows."""
    past = Past(a_past(START_MS + DAY_MS, until_ms=START_MS + DAY_MS // 2), None)
    just_after = a_run(1, START_MS + DAY_MS // 2 + 10_000)
    assert not any(counted for *_, counted, _ in moments(just_after, past))
    past = Past(a_past(BASELINE_MS + 60_000, until_ms=BASELINE_MS), None)
    assert ("CREATED", BASELINE_MS - 1 - START_MS, True, True) in moments(a_run(1, BASELINE_MS + 9_000), past)


def test_a_type_that_came_into_scope_later_ends_with_the_first() -> None:
    baselines = Baselines({"FRAME_EXTRACT": START_MS + DAY_MS, "SCENARIO_TO_SIM": BASELINE_MS}, None)
    live = LiveCounting(baselines, rows_ahead_ms=0)
    assert live.baseline_ms == BASELINE_MS
    past = Past(TargetPlan(a_target(), live, {}, START_MS, BASELINE_MS), None)
    early, late = a_run(1, START_MS + 1_000, ran_ms=1_000), a_run(2, START_MS + DAY_MS // 2)
    assert all(counted for *_, counted, _ in moments(early, past))
    assert moments(late, past) == []
    assert past.left_out.late == 3
