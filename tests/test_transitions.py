"""The rules of counting, one by one; test_counting.py tries them together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from exporter.counting.transitions import (
    Baseline,
    Baselines,
    KnownJob,
    ended_before,
    latest,
    rescope,
    transition,
)
from exporter.model import OTHER, Job

LATER = Baseline(at_ms=1_000)
HISTORY = Baseline(at_ms=None)


def job(status: str, **fields: object) -> Job:
    row: dict[str, object] = {
        "id": 1,
        "job_type": "FRAME_EXTRACT",
        "created_ms": 500,
        "updated_ms": 2_000,
        **fields,
    }
    return Job(status=status, **row)  # type: ignore[arg-type]  # the table below spells the fields


def known(*sights: Job, baseline: Baseline = LATER) -> KnownJob:
    row = None
    for sight in sights:
        change = transition(row, sight, baseline)
        assert change is not None
        row = change.known
    assert row is not None
    return row


def counted(before: KnownJob | None, seen: Job, baseline: Baseline = LATER) -> tuple[bool, bool, bool]:
    """Give (created, started, ended) as counted at the sight of `seen`."""
    change = transition(before, seen, baseline)
    if change is None:
        return (False, False, False)
    return (change.created, change.submitting_ms is not None, change.ended)


NEW = {"created_ms": 1_000}
RUN = {"started_ms": 1_100, "ended_ms": 1_500}


@pytest.mark.parametrize(
    ("seen", "baseline", "expected"),
    [
        pytest.param(job("QUEUING", **NEW), LATER, (True, False, False), id="a new job is created"),
        pytest.param(
            job("QUEUING"), LATER, (False, False, False), id="one from before the baseline is not new"
        ),
        pytest.param(job("RUNNING", started_ms=999), LATER, (False, False, False), id="it started before"),
        pytest.param(job("RUNNING", started_ms=1_000), LATER, (False, True, False), id="it started since"),
        pytest.param(
            job("FINISHED", started_ms=700, ended_ms=999),
            LATER,
            (False, False, False),
            id="what ended before the baseline never counts, even if seen late",
        ),
        pytest.param(
            job("FINISHED", **NEW, **RUN), LATER, (True, True, True), id="born and ended between two polls"
        ),
        pytest.param(job("FINISHED", **RUN), LATER, (False, True, True), id="created before, ended since"),
        pytest.param(job("STOPPED", updated_ms=999), LATER, (False, False, False), id="no end: its update"),
        pytest.param(job("FINISHED", started_ms=7, ended_ms=9), HISTORY, (True, True, True), id="history"),
        pytest.param(
            job("SOMETHING_NEW", **NEW), LATER, (True, False, False), id="an unknown status ends no run"
        ),
        pytest.param(
            job("SOMETHING_NEW", ended_ms=1_500), LATER, (False, False, True), id="unless it shows an end"
        ),
        pytest.param(
            job("SOMETHING_NEW", named_terminal=True), LATER, (False, False, True), id="or is named an end"
        ),
        pytest.param(
            job("SOMETHING_NEW", ended_ms=999), LATER, (False, False, False), id="which may be history too"
        ),
        pytest.param(
            job("QUEUING", **NEW, started_ms=0), LATER, (True, False, False), id="a start at 0 is none"
        ),
        pytest.param(job("RUN_FAILED", ended_ms=0), LATER, (False, False, True), id="an end at 0 is none"),
        pytest.param(job("RUN_FAILED", ended_ms=-1), LATER, (False, False, True), id="so is one before 1970"),
        pytest.param(
            job("NEW", ended_ms=0), LATER, (False, False, False), id="and ends no run in an unknown status"
        ),
    ],
)
def test_first_sight(seen: Job, baseline: Baseline, expected: tuple[bool, bool, bool]) -> None:
    assert counted(None, seen, baseline) == expected


@pytest.mark.parametrize(
    ("before", "seen", "ends"),
    [
        pytest.param({}, RUN, False, id="both times come late"),
        pytest.param({"ended_ms": 1_500}, RUN, False, id="the start comes late"),
        pytest.param(RUN, {}, False, id="no time for a while"),
        pytest.param(RUN, {"started_ms": 1_100}, False, id="no end for a while"),
        pytest.param(RUN, RUN | {"ended_ms": 1_600}, True, id="another end"),
        pytest.param(RUN, RUN | {"started_ms": 1_200}, True, id="another start"),
    ],
)
def test_a_run_is_another_one_only_if_a_time_that_was_known_differs(
    before: dict[str, object], seen: dict[str, object], ends: bool
) -> None:
    row = known(job("RUN_FAILED", **before))
    later = job("RUN_FAILED", **(seen | {"updated_ms": 2_500}))
    assert counted(row, later)[2] is ends
    # What the row lacked for a while is none that has changed once it is there again.
    change = transition(row, later, LATER)
    assert change is not None
    again = job("RUN_FAILED", **(before | {"updated_ms": 3_000}))
    assert counted(change.known, again)[2] is (ends and bool(before))


@pytest.mark.parametrize(("started_ms", "another"), [(1_500, False), (1_501, True)])
def test_a_start_after_the_end_that_is_known_is_of_another_run(started_ms: int, another: bool) -> None:
    never_started = known(job("STOPPED", ended_ms=1_500))
    later = job("STOPPED", started_ms=started_ms, updated_ms=3_000)
    assert counted(never_started, later) == (False, True, another)
    # Where the start is known, times that contradict each other are no other run.
    row = known(job("STOPPED", started_ms=1_600, ended_ms=1_500))
    assert counted(row, job("STOPPED", started_ms=1_600, ended_ms=1_500, updated_ms=3_000))[2] is False


def test_another_run_that_ended_before_the_baseline_is_history() -> None:
    row = known(job("RUN_FAILED", **RUN))
    assert counted(row, job("RUN_FAILED", started_ms=300, ended_ms=999)) == (False, False, False)


def test_a_job_pruned_before_is_not_counted_again() -> None:
    forgotten = Baseline(at_ms=100, forgotten_before_ms=600)
    assert counted(None, job("FINISHED", **RUN), forgotten) == (False, False, False)


@pytest.mark.parametrize(("forgotten_before_ms", "expected"), [(501, False), (500, True)])
def test_a_job_created_when_forgetting_ends_was_not_forgotten(
    forgotten_before_ms: int, expected: bool
) -> None:
    baseline = Baseline(at_ms=100, forgotten_before_ms=forgotten_before_ms)
    assert counted(None, job("FINISHED", **RUN), baseline) == (expected, expected, expected)


def test_a_job_pruned_before_counts_for_what_it_does_now() -> None:
    forgotten = Baseline(at_ms=100, forgotten_before_ms=600)
    assert counted(None, job("RUNNING", started_ms=1_800), forgotten) == (False, True, False)


def test_an_end_counts_whenever_it_was() -> None:
    before = known(job("RUNNING", started_ms=900))
    assert counted(before, job("RUN_FAILED", started_ms=900, ended_ms=950)) == (False, False, True)


def test_an_update_of_a_finished_job_counts_nothing() -> None:
    before = known(job("FINISHED", **RUN))
    assert counted(before, job("STOPPED", updated_ms=9_000, **RUN)) == (False, False, False)


def test_an_end_time_that_comes_late_belongs_to_the_same_run() -> None:
    before = known(job("FINISHED", started_ms=1_100))
    assert counted(before, job("FINISHED", updated_ms=9_000, **RUN)) == (False, False, False)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"started_ms": 5_000, "ended_ms": 6_000}, (False, True, True)),
        ({"started_ms": 1_100, "ended_ms": 6_000}, (False, False, True)),
        ({"started_ms": None, "ended_ms": 6_000}, (False, False, True)),
    ],
)
def test_other_times_are_another_run(times: dict[str, int], expected: tuple[bool, bool, bool]) -> None:
    before = known(job("RUN_FAILED", **RUN))
    assert counted(before, job("RUN_FAILED", updated_ms=9_000, **times)) == expected


@pytest.mark.parametrize("ends", [{"ended_ms": 1_500}, {"named_terminal": True}])
def test_a_run_ends_in_a_status_that_nobody_documents(ends: dict[str, int]) -> None:
    before = known(job("RUNNING", started_ms=1_100))
    after = job("ARCHIVED", started_ms=1_100, updated_ms=3_000, **ends)
    assert counted(before, after) == (False, False, True)
    assert counted(known(job("RUNNING"), after), after) == (False, False, False)


def test_an_end_time_that_comes_later_ends_a_run_of_unknown_status() -> None:
    before = known(job("RUNNING", started_ms=1_100), job("ARCHIVED", started_ms=1_100, updated_ms=3_000))
    assert before.in_flight
    assert counted(before, job("ARCHIVED", updated_ms=4_000, **RUN)) == (False, False, True)


@pytest.mark.parametrize(("updated_ms", "expected"), [(1_000, True), (999, False)])
def test_a_status_named_as_an_end_later_ends_the_runs_in_it_but_for_those_before_the_baseline(
    updated_ms: int, expected: bool
) -> None:
    seen = job("ARCHIVED", updated_ms=updated_ms)
    before = known(seen)
    assert before.in_flight
    named = job("ARCHIVED", updated_ms=updated_ms, named_terminal=True)
    assert counted(before, named) == (False, False, expected)
    after = known(seen, named)
    assert not after.in_flight
    assert counted(after, named) == (False, False, False)


def test_a_status_that_is_no_end_any_more_leaves_counted_runs_alone_until_something_happens() -> None:
    named = job("ARCHIVED", started_ms=1_100, named_terminal=True)
    unnamed = job("ARCHIVED", started_ms=1_100, updated_ms=9_000)
    after = known(named, unnamed)
    assert not after.in_flight
    assert counted(after, job("FINISHED", updated_ms=9_500, **RUN)) == (False, False, False)
    again = job("RUNNING", started_ms=9_100, updated_ms=9_500)
    assert counted(after, again) == (False, True, False)
    assert known(named, unnamed, again).in_flight


ARCHIVED = {"started_ms": 3_100, "updated_ms": 4_000}
RAN_TWICE = (
    job("RUN_FAILED", **RUN),
    job("RUNNING", started_ms=3_100, updated_ms=3_100),
    job("ARCHIVED", named_terminal=True, **ARCHIVED),
)


@pytest.mark.parametrize(
    ("sights", "unnamed"),
    [
        pytest.param(RAN_TWICE, ARCHIVED, id="the end time that is kept is that of the run before"),
        pytest.param(RAN_TWICE, ARCHIVED | {"started_ms": None}, id="no start time for a while"),
        pytest.param(RAN_TWICE[:1] + RAN_TWICE[2:], ARCHIVED, id="both runs ended between two polls"),
        pytest.param(
            [job("RUNNING"), job(OTHER, named_terminal=True, **ARCHIVED)], ARCHIVED, id="a label of its own"
        ),
    ],
)
def test_a_run_counts_once_whether_or_not_its_status_is_named(
    sights: Sequence[Job], unnamed: dict[str, int | None]
) -> None:
    row = known(*sights)
    assert (row.in_flight, row.end_counted) == (False, True)
    for later in (
        job("ARCHIVED", **unnamed),
        job("ARCHIVED", **ARCHIVED),
        job("ARCHIVED", named_terminal=True, **ARCHIVED),
        job("ARCHIVED", named_terminal=True, ended_ms=3_900, **ARCHIVED),
        job("FINISHED", ended_ms=3_900, **ARCHIVED | {"updated_ms": 4_500}),
    ):
        change = transition(row, later, LATER)
        assert change is not None
        assert (change.ended, change.rerun, change.submitting_ms) == (False, False, None)
        row = change.known
        assert not row.in_flight


def test_a_job_that_runs_again_in_a_status_that_is_named_no_more_is_in_flight() -> None:
    again = job("ARCHIVED", started_ms=5_000, updated_ms=5_000)
    assert known(*RAN_TWICE, again).in_flight
    assert known(job(OTHER, named_terminal=True), job("ARCHIVED", updated_ms=2_001)).in_flight
    assert known(job("ARCHIVED", named_terminal=True), job("COLD")).in_flight
    assert known(job(OTHER, named_terminal=True), job("RUNNING")).in_flight


@pytest.mark.parametrize("label", ["ARCHIVED", OTHER])
@pytest.mark.parametrize(("entered_ms", "expected"), [(1_000, True), (999, False)])
def test_a_job_that_was_in_the_status_before_the_baseline_is_history_when_that_is_named(
    label: str, entered_ms: int, expected: bool
) -> None:
    before = known(job(label, updated_ms=entered_ms))
    assert counted(before, job("ARCHIVED", updated_ms=entered_ms, named_terminal=True))[2] is expected
    touched = job(label, updated_ms=8_000, named_terminal=True)
    assert counted(before, touched)[2] is expected


def test_a_job_that_ran_again_in_a_status_before_that_was_named_has_ended_since() -> None:
    before = known(job("ARCHIVED", started_ms=700, updated_ms=900))
    again = job("ARCHIVED", started_ms=5_000, updated_ms=8_000, named_terminal=True)
    assert counted(before, again) == (False, True, True)


def test_a_counted_job_that_was_pruned_counts_nothing_where_only_its_status_is_named_no_more() -> None:
    forgotten = Baseline(at_ms=100, forgotten_before_ms=600)
    shown = {"started_ms": 1_800, "updated_ms": 2_000}
    first = transition(None, job("ARCHIVED", **shown), forgotten)
    assert first is not None
    assert (first.created, first.rerun, first.submitting_ms, first.known.in_flight) == (
        False,
        False,
        None,
        True,
    )
    for updated_ms in (2_000, 3_000):
        named = job("ARCHIVED", named_terminal=True, **shown | {"updated_ms": updated_ms})
        change = transition(first.known, named, forgotten)
        assert change is not None
        assert (change.ended, change.rerun, change.submitting_ms) == (False, False, None)
    # What it does from now on counts.
    again = transition(first.known, job("RUNNING", started_ms=4_000, updated_ms=4_000), forgotten)
    assert again is not None
    assert (again.rerun, again.submitting_ms is not None) == (True, True)
    ended = transition(
        first.known, job("FINISHED", ended_ms=4_000, started_ms=1_800, updated_ms=4_000), forgotten
    )
    assert ended is not None
    assert (ended.rerun, ended.ended) == (True, True)


def test_an_old_job_that_ran_since_ends_when_its_status_is_named() -> None:
    forgotten = Baseline(at_ms=100, forgotten_before_ms=600)
    never_pruned = known(job("ARCHIVED", started_ms=50), baseline=Baseline(at_ms=100))
    named = job("ARCHIVED", started_ms=50, named_terminal=True)
    assert counted(never_pruned, named, forgotten) == (False, False, True)
    old = {"started_ms": 1_800, "updated_ms": 2_000}
    for sights in ([job("RUNNING", **old)], [job("QUEUING", updated_ms=1_700), job("RUNNING", **old)]):
        before = known(*sights, job("ARCHIVED", **old), baseline=forgotten)
        named = job("ARCHIVED", named_terminal=True, **old)
        assert counted(before, named, forgotten) == (False, False, True)


@pytest.mark.parametrize("kept_ms", [None, 3_900])
def test_an_end_time_that_comes_late_to_a_second_run_belongs_to_it(kept_ms: int | None) -> None:
    row = known(
        job("RUN_FAILED", **RUN),
        job("RUNNING", started_ms=3_100, updated_ms=3_100),
        job("FINISHED", started_ms=3_100, ended_ms=kept_ms, updated_ms=4_000),
    )
    assert row.ended_ms == kept_ms
    late = job("FINISHED", started_ms=3_100, ended_ms=3_900, updated_ms=5_000)
    assert counted(row, late) == (False, False, False)


def test_a_start_at_0_counts_once_when_it_comes() -> None:
    before = known(job("QUEUING", started_ms=0))
    assert (before.started_ms, before.counted_start_ms) == (None, None)
    assert counted(before, job("RUNNING", started_ms=2_000, updated_ms=2_000)) == (False, True, False)


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        pytest.param(
            job("FINISHED", ended_ms=900), job("FINISHED", started_ms=800, ended_ms=900), False, id="history"
        ),
        pytest.param(
            job("FINISHED", created_ms=1_000, ended_ms=1_500),
            job("FINISHED", created_ms=1_000, **RUN),
            True,
            id="a run since the baseline",
        ),
        pytest.param(
            job("RUNNING"), job("RUNNING", started_ms=999), False, id="in flight, with nothing else changed"
        ),
        pytest.param(
            job("QUEUING"),
            job("RUNNING", started_ms=999, updated_ms=2_500),
            True,
            id="seen before it started",
        ),
    ],
)
def test_a_start_that_comes_to_light_late_counts_unless_it_is_history(
    before: Job, after: Job, counts: bool
) -> None:
    assert counted(known(before), after) == (False, counts, False)


@pytest.mark.parametrize("is_first_sync", [True, False])
@pytest.mark.parametrize("status", ["RUNNING", "FINISHED"])
def test_a_time_yet_to_come_is_no_news_at_the_first_sync_only(status: str, is_first_sync: bool) -> None:
    times = {"created_ms": 9_001, "started_ms": 9_002, "updated_ms": 9_003}
    ended = {"ended_ms": 9_003} if status == "FINISHED" else {}
    baseline = Baseline(at_ms=1_000, latest_ms=9_000, is_first_sync=is_first_sync)
    assert counted(None, job(status, **times, **ended), baseline) == (
        *(not is_first_sync, not is_first_sync),
        status == "FINISHED" and not is_first_sync,
    )


def test_a_time_yet_to_come_is_news_after_the_first_sync() -> None:
    baseline = Baseline(at_ms=1_000, latest_ms=9_000)
    assert counted(None, job("QUEUING", created_ms=9_001), baseline) == (True, False, False)


def test_a_millisecond_after_1970_is_a_time() -> None:
    seen = job("FINISHED", created_ms=1, started_ms=1, ended_ms=1)
    assert counted(None, seen, HISTORY) == (True, True, True)
    assert counted(None, seen) == (False, False, False)


PRUNED = Baseline(at_ms=100, forgotten_before_ms=600)


@pytest.mark.parametrize(
    ("sights", "baseline", "runs"),
    [
        pytest.param([job("RUNNING")], LATER, 0, id="the first one goes on"),
        pytest.param([job("FINISHED", ended_ms=900)], LATER, 1, id="history"),
        pytest.param([job("FINISHED", **RUN)], PRUNED, 1, id="a run that was pruned"),
        pytest.param([job("RUNNING")], PRUNED, 1, id="the run before this one was pruned"),
        pytest.param([job("RUNNING"), job("FINISHED", **RUN)], LATER, 1, id="it ends"),
        pytest.param([job("FINISHED", **RUN), job("FINISHED", **RUN)], LATER, 1, id="the same run again"),
        pytest.param(
            [job("RUN_FAILED", **RUN), job("FINISHED", started_ms=1_600, ended_ms=1_700)],
            LATER,
            2,
            id="another run",
        ),
    ],
)
def test_every_run_that_was_seen_to_end_has_a_number(
    sights: list[Job], baseline: Baseline, runs: int
) -> None:
    row = known(*sights, baseline=baseline)
    assert (row.runs, row.listed) == (runs, True)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(job("FINISHED", ended_ms=999), True, id="ended before"),
        pytest.param(job("FINISHED", ended_ms=1_000), False, id="ended at that time"),
        pytest.param(job("FINISHED", updated_ms=999), True, id="no end: its update"),
        pytest.param(job("FINISHED", ended_ms=0), False, id="an end at 0 is none"),
        pytest.param(job("FINISHED", ended_ms=1), True, id="a millisecond after 1970"),
        pytest.param(job("ARCHIVED", ended_ms=999), True, id="an undocumented status with an end"),
        pytest.param(job("ARCHIVED", updated_ms=999, named_terminal=True), True, id="or named as one"),
        pytest.param(job("ARCHIVED", updated_ms=999), False, id="an undocumented status"),
        pytest.param(job("RUNNING", updated_ms=999), False, id="in flight"),
    ],
)
def test_a_run_ended_before_a_time(seen: Job, expected: bool) -> None:
    assert ended_before(seen, 1_000) is expected


def test_a_reopened_job_ends_again() -> None:
    before = known(job("UPLOAD_FAILED", **RUN), job("UPLOADING", started_ms=1_100, updated_ms=3_000))
    after = job("FINISHED", started_ms=1_100, ended_ms=1_500, updated_ms=4_000)
    assert counted(before, after) == (False, False, True)


def test_a_start_time_that_is_gone_for_a_while_is_not_counted_twice() -> None:
    before = known(job("RUNNING", started_ms=1_100), job("RUNNING", updated_ms=3_000))
    assert counted(before, job("RUNNING", started_ms=1_100, updated_ms=4_000)) == (False, False, False)


def test_an_old_copy_of_a_row_reopens_nothing() -> None:
    before = known(job("RUNNING", started_ms=1_100), job("FINISHED", updated_ms=3_000, **RUN))
    assert transition(before, job("RUNNING", started_ms=1_100, updated_ms=2_000), LATER) is None


@pytest.mark.parametrize(("latest_ms", "expected"), [(8_999, True), (9_000, False)])
def test_a_row_stamped_by_a_clock_put_right_since_is_no_newer_copy(latest_ms: int, expected: bool) -> None:
    before = known(job("RUNNING", started_ms=1_100, updated_ms=9_000))
    baseline = Baseline(at_ms=1_000, latest_ms=latest_ms)
    assert counted(before, job("FINISHED", updated_ms=3_000, **RUN), baseline) == (False, False, expected)


@pytest.mark.parametrize(
    ("fields", "submitting_ms", "running_ms"),
    [
        ({"submitting_ms": 7, "running_ms": 8, **RUN}, 7, 8),
        (RUN, 600, 400),
        ({"submitting_ms": -5, "running_ms": -5, **RUN}, 600, 400),
        ({"started_ms": 100, "ended_ms": 50}, 0, None),
        ({"started_ms": 1_100}, 600, None),
        ({"started_ms": 1_100, "ended_ms": 50}, 600, None),
        ({"started_ms": 1_100, "ended_ms": 50, "running_ms": 8}, 600, 8),
        ({"started_ms": 1_100, "ended_ms": 1_100}, 600, 0),
        ({"submitting_ms": 2**62, "running_ms": 2**62, **RUN}, 600, 400),
        ({"submitting_ms": 10**12 + 1, "running_ms": 10**12 + 1, **RUN}, 600, 400),
        ({"submitting_ms": 10**12, "running_ms": 10**12, **RUN}, 10**12, 10**12),
    ],
)
def test_durations(fields: dict[str, int], submitting_ms: int, running_ms: int | None) -> None:
    change = transition(None, job("FINISHED", **fields), HISTORY)
    assert change is not None
    assert (change.submitting_ms, change.running_ms) == (submitting_ms, running_ms)


def test_a_job_that_never_started_has_no_durations() -> None:
    change = transition(None, job("SUBMIT_FAILED", ended_ms=1_500), LATER)
    assert change is not None
    assert (change.ended, change.submitting_ms, change.running_ms) == (True, None, None)


@pytest.mark.parametrize(
    ("sights", "fields", "waited_ms", "running_ms"),
    [
        pytest.param([], RUN, 600, 400, id="from its creation to its start"),
        pytest.param([], {"submitting_ms": 7, "running_ms": 8}, 7, 8, id="no start: the API's figures"),
        pytest.param([], {"submitting_ms": 0, "running_ms": 0}, None, None, id="no start: 0 is no figure"),
        pytest.param(
            [job("RUNNING", started_ms=1_100)], RUN, 600, 400, id="its start was counted by another poll"
        ),
        pytest.param(
            [job("RUN_FAILED", **RUN), job("RUNNING", started_ms=1_700)],
            {"started_ms": 1_700, "ended_ms": 1_900},
            200,
            200,
            id="since the end of the run before",
        ),
        pytest.param(
            [job("RUNNING", started_ms=1_100)],
            {"started_ms": 1_700, "ended_ms": 1_900},
            600,
            200,
            id="since the start of the run before, of which no end is known",
        ),
    ],
)
def test_a_run_that_ends_says_how_long_it_waited_and_ran(
    sights: list[Job], fields: dict[str, int], waited_ms: int | None, running_ms: int | None
) -> None:
    before = known(*sights) if sights else None
    change = transition(before, job("FINISHED", **(fields | {"updated_ms": 2_500})), LATER)
    assert change is not None
    assert change.ended
    assert (change.waited_ms, change.running_ms) == (waited_ms, running_ms)


def submitting_ms(before: KnownJob, seen: Job) -> int | None:
    change = transition(before, seen, LATER)
    assert change is not None
    return change.submitting_ms


QUEUED = job("QUEUING", updated_ms=2_000)
AGAIN = {"started_ms": 2_000, "updated_ms": 2_000, "submitting_ms": 1_500}


@pytest.mark.parametrize(
    ("sights", "figure", "expected"),
    [
        pytest.param([job("RUN_FAILED", **RUN)], 1_500, 500, id="since the end before"),
        pytest.param([job("RUN_FAILED", **RUN)], 300, 300, id="the figure of this run alone"),
        pytest.param([job("RUN_FAILED", **RUN)], None, 500, id="no figure"),
        pytest.param(
            [job("RUN_FAILED", **RUN), QUEUED], 1_500, 500, id="seen queuing meanwhile, without an end"
        ),
        pytest.param([job("SUBMIT_FAILED", ended_ms=1_500)], 1_500, 500, id="ended without a start"),
        pytest.param(
            [job("RUNNING", started_ms=1_100), QUEUED], 1_500, 900, id="no end known: since its start"
        ),
        pytest.param([job("RUN_FAILED", started_ms=1_100, ended_ms=9_000)], 1_500, 900, id="an end to come"),
        pytest.param([QUEUED], 1_500, 1_500, id="a first start"),
        pytest.param([job("RUN_FAILED", started_ms=1_100, ended_ms=2_000)], 1_500, 0, id="at that very end"),
    ],
)
def test_a_job_that_starts_again_waited_since_its_last_run_at_most(
    sights: list[Job], figure: int | None, expected: int
) -> None:
    seen = job("RUNNING", **(AGAIN | {"submitting_ms": figure}))
    assert submitting_ms(known(*sights), seen) == expected


@pytest.mark.parametrize(
    ("known_at_ms", "job_types", "at_ms"),
    [
        pytest.param({}, (), {"*": 900}, id="the first sync of all types"),
        pytest.param({}, ("A", "B"), {"A": 900, "B": 900}, id="the first sync of some types"),
        pytest.param({"*": 100}, (), {"*": 100}, id="nothing new"),
        pytest.param({"A": 100}, ("A", "B"), {"A": 100, "B": 900}, id="another type"),
        pytest.param({"A": 100, "B": 200}, ("B",), {"B": 200}, id="a type leaves"),
        pytest.param({"*": 100}, ("A",), {"A": 100}, id="one instead of all"),
        pytest.param(
            {"*": 100}, ("A", "LUMPED"), {"A": 100, "LUMPED": 900}, id="one that was counted as other"
        ),
        pytest.param({"A": 100}, (), {"A": 100, "*": 900}, id="all instead of one"),
        pytest.param({"A": None}, ("A",), {"A": None}, id="all its history counts"),
    ],
)
def test_counting_begins_anew_for_types_that_come_into_scope(
    known_at_ms: dict[str, int | None], job_types: tuple[str, ...], at_ms: dict[str, int | None]
) -> None:
    begun = frozenset(kind for kind, since_ms in at_ms.items() if since_ms == 900)
    assert rescope(known_at_ms, job_types, 900, 50, {"A", "B"}) == Baselines(at_ms, 50, begun=begun)


def test_an_old_job_of_a_type_that_comes_into_scope_was_not_pruned_before() -> None:
    """It is in flight since before the lookback, and nothing says that it has ended before."""
    baselines = rescope({"A": 100}, ("A", "B"), 1_000, 600, ())
    starts = job("RUNNING", started_ms=2_500, updated_ms=2_500)
    reruns = {}
    for kind in ("A", "B"):
        first = transition(None, job("QUEUING"), baselines.of(kind))
        assert first is not None
        change = transition(first.known, starts, baselines.of(kind))
        assert change is not None
        reruns[kind] = change.rerun
    assert reruns == {"A": True, "B": False}


def test_a_job_goes_by_the_baseline_of_its_type_or_by_that_of_all() -> None:
    baselines = Baselines({"A": 100, "*": 900}, 50, 9_000)
    assert baselines.of("A") == Baseline(100, 50, 9_000, is_first_sync=False)
    assert baselines.of("B") == Baseline(900, 50, 9_000, is_first_sync=False)


@pytest.mark.parametrize(
    ("at_ms", "expected"), [({"A": 100, "B": 900, "C": None}, 900), ({"*": None}, None), ({}, None)]
)
def test_people_are_told_the_latest_baseline(at_ms: dict[str, int | None], expected: int | None) -> None:
    assert latest(at_ms) == expected


EARLY = {"started_ms": 700, "updated_ms": 900}
GONE_BY = {"started_ms": 700, "ended_ms": 900}


@pytest.mark.parametrize(
    ("sights", "expected"),
    [
        pytest.param([job("QUEUING")], (False, False), id="nothing has happened"),
        pytest.param([job("RUNNING", **EARLY)], (False, False), id="a start of the baseline"),
        pytest.param([job("RUNNING", started_ms=1_100)], (True, False), id="a start"),
        pytest.param([job("FINISHED", **GONE_BY)], (False, False), id="history"),
        pytest.param([job("FINISHED", **RUN)], (True, True), id="a run"),
        pytest.param([job("FINISHED", started_ms=700, ended_ms=1_500)], (False, True), id="only its end"),
        pytest.param(
            [job("QUEUING", updated_ms=500), job("FINISHED", **GONE_BY)],
            (True, True),
            id="a row that shows late what was before the baseline",
        ),
        pytest.param(
            [job("RUNNING", **EARLY), job("FINISHED", **GONE_BY)], (False, True), id="its end shows late"
        ),
        pytest.param(
            [job("FINISHED", **RUN), job("FINISHED", ended_ms=1_500, updated_ms=3_000)],
            (True, True),
            id="a start that is missing for a while",
        ),
        pytest.param(
            [job("FINISHED", **RUN), job("FINISHED", **RUN | {"updated_ms": 3_000})],
            (True, True),
            id="an update",
        ),
        pytest.param(
            [job("FINISHED", **GONE_BY), job("RUNNING", started_ms=1_800)],
            (True, False),
            id="a second run under way",
        ),
        pytest.param(
            [job("FINISHED", **RUN), job("FINISHED", **GONE_BY, updated_ms=3_000)],
            (False, False),
            id="another run, which is history",
        ),
    ],
)
def test_it_is_known_whether_the_last_start_and_end_were_counted(
    sights: list[Job], expected: tuple[bool, bool]
) -> None:
    row = known(*sights)
    assert (row.start_counted, row.end_counted) == expected
