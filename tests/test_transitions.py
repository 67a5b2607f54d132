"""The rules of counting, one by one; test_counting.py tries them together."""

from __future__ import annotations

import pytest

from exporter.model import Job
from exporter.sync.transitions import Baseline, KnownJob, transition

LATER = Baseline(at_ms=1_000)
FIRST = Baseline(at_ms=1_000, first_sync=True)
HISTORY = Baseline(at_ms=None, first_sync=True)


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


RUN = {"started_ms": 1_100, "ended_ms": 1_500}


@pytest.mark.parametrize(
    ("seen", "baseline", "expected"),
    [
        pytest.param(job("QUEUING"), LATER, (True, False, False), id="a new job is created"),
        pytest.param(job("QUEUING"), FIRST, (False, False, False), id="what the first sync finds is not new"),
        pytest.param(
            job("QUEUING", created_ms=1_000), FIRST, (True, False, False), id="unless it came meanwhile"
        ),
        pytest.param(job("RUNNING", started_ms=900), FIRST, (False, False, False), id="it started before"),
        pytest.param(job("RUNNING", started_ms=1_000), FIRST, (False, True, False), id="it started during"),
        pytest.param(
            job("RUNNING", started_ms=900), LATER, (True, True, False), id="seen late, still running"
        ),
        pytest.param(
            job("FINISHED", started_ms=700, ended_ms=999),
            LATER,
            (False, False, False),
            id="what ended before the baseline never counts, even if seen late",
        ),
        pytest.param(
            job("FINISHED", **RUN), LATER, (True, True, True), id="born and ended between two polls"
        ),
        pytest.param(job("FINISHED", **RUN), FIRST, (False, True, True), id="ended during the first sync"),
        pytest.param(job("STOPPED", updated_ms=999), LATER, (False, False, False), id="no end: its update"),
        pytest.param(job("FINISHED", started_ms=7, ended_ms=9), HISTORY, (True, True, True), id="history"),
        pytest.param(job("SOMETHING_NEW"), LATER, (True, False, False), id="an unknown status ends no run"),
    ],
)
def test_first_sight(seen: Job, baseline: Baseline, expected: tuple[bool, bool, bool]) -> None:
    assert counted(None, seen, baseline) == expected


def test_a_job_pruned_before_is_not_counted_again() -> None:
    forgotten = Baseline(at_ms=100, forgotten_before_ms=600)
    assert counted(None, job("FINISHED", **RUN), forgotten) == (False, False, False)


def test_a_job_pruned_before_counts_for_what_it_does_now() -> None:
    forgotten = Baseline(at_ms=100, forgotten_before_ms=600)
    assert counted(None, job("RUNNING", started_ms=1_800), forgotten) == (False, True, False)


def test_an_end_counts_whenever_it_was() -> None:
    before = known(job("RUNNING", started_ms=900), baseline=FIRST)
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
        ({"submitting_ms": -5, "running_ms": -5, **RUN}, 0, 0),
        ({"started_ms": 100, "ended_ms": 50}, 0, 0),
        ({"started_ms": 1_100}, 600, None),
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
