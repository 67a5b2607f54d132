"""Runs of a job that had ended before, against a model: any lives, seen at any moments, by rows that lag."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.counting.transitions import Baseline, KnownJob, transition
from exporter.model import Job

BASELINE = Baseline(at_ms=1_000)
PRUNED = Baseline(at_ms=1_000, forgotten_before_ms=900)
CREATED_MS = 500


@dataclass(frozen=True, slots=True)
class OneRun:
    """
    One run of a job, in ms.

    Shape: it waits and then runs, and begins to wait `pause_ms` after the end of the run before; with
    `uploads_again` it goes on UPLOADING with the start of the run before. One that never started fails.
    """

    pause_ms: int
    waits_ms: int
    runs_ms: int
    starts: bool = True
    uploads_again: bool = False


@dataclass(frozen=True, slots=True)
class Lived:
    """A run with its times. Shape: `owner` is the run whose start it has; `started_ms` None for none."""

    number: int
    submitted_ms: int
    started_ms: int | None
    ended_ms: int
    owner: int


@dataclass(frozen=True, slots=True)
class Habits:
    """
    How the server shows rows.

    Shape: `late_ms` is how long a start takes to be shown; `stale` rows of a job that waits again show the
    start before.
    """

    late_ms: int = 0
    stale: bool = False


def lives(runs: list[OneRun]) -> list[Lived]:
    lived: list[Lived] = []
    now = 1_000
    for number, run in enumerate(runs):
        before = lived[-1] if lived else None
        submitted = now = now + run.pause_ms
        if run.uploads_again and before is not None and before.started_ms is not None:
            lived.append(Lived(number, submitted, before.started_ms, now + run.runs_ms, before.owner))
        else:
            now += run.waits_ms
            lived.append(Lived(number, submitted, now if run.starts else None, now + run.runs_ms, number))
        now += run.runs_ms
    return lived


def sight(
    lived: list[Lived], at_ms: int, habits: Habits, hides_start: bool
) -> tuple[Job, Lived, Lived | None]:
    """Give the row at a moment, the run that it is of, and the run whose start it shows."""
    run = next((run for run in reversed(lived) if run.submitted_ms <= at_ms), lived[0])
    has_ended = at_ms >= run.ended_ms
    has_started = run.started_ms is not None and at_ms >= run.started_ms
    shown = run if has_started and at_ms >= (run.started_ms or 0) + habits.late_ms else None
    # An ended row with the start before and then its own would be another run by any rule.
    if shown is None and habits.stale and run.number and not (has_ended and has_started):
        before = lived[run.number - 1]
        shown = before if before.started_ms is not None else None
    if hides_start:
        shown = None
    if has_ended:
        status, changed = ("RUN_FAILED" if has_started else "SUBMIT_FAILED"), run.ended_ms
    elif has_started:
        status = "UPLOADING" if run.owner != run.number else "RUNNING"
        changed = max(run.submitted_ms, run.started_ms or 0)
    else:
        status, changed = "QUEUING", run.submitted_ms
    row = Job(
        id=1,
        job_type="FRAME_EXTRACT",
        status=status,
        created_ms=CREATED_MS,
        updated_ms=changed,
        started_ms=shown.started_ms if shown else None,
        ended_ms=run.ended_ms if has_ended else None,
    )
    return row, run, shown


class Reader:
    """
    What a reader of these rows can know.

    An end that was seen makes every later run a rerun. It is counted when a start that was never shown before
    is of a run after the last that was seen to end; or when its end is seen, and no start since the end
    before was counted. A restart that no row shows, of a run whose start was counted, cannot be told from
    that run.
    """

    def __init__(self) -> None:
        self.reruns = 0
        self._ended: set[int] = set()
        self._starts: set[int] = set()
        self._is_counted = False

    def see(self, row: Job, run: Lived, shown: Lived | None) -> None:
        ends = row.ended_ms is not None and run.number not in self._ended
        is_old = row.ended_ms is not None and not ends
        first = None if shown is None or shown.owner in self._starts else shown.owner
        by_start = first is not None and not is_old and 0 <= max(self._ended, default=-1) < first
        by_end = ends and bool(self._ended) and not self._is_counted
        self.reruns += by_start or by_end
        self._is_counted = self._is_counted or by_start
        if shown is not None:
            self._starts.add(shown.owner)
        if ends:
            self._ended.add(run.number)
            self._is_counted = False


def reruns(rows: list[Job], baseline: Baseline = BASELINE) -> int:
    known: KnownJob | None = None
    counted = 0
    for row in rows:
        change = transition(known, row, baseline)
        assert change is not None
        counted += change.rerun
        known = change.known
    return counted


RUNS = st.lists(
    st.builds(
        OneRun,
        pause_ms=st.integers(1, 20),
        waits_ms=st.integers(1, 20),
        runs_ms=st.integers(1, 20),
        starts=st.integers(0, 3).map(bool),
        uploads_again=st.integers(0, 3).map(lambda lot: lot == 0),
    ),
    min_size=1,
    max_size=5,
)
LOOKS = st.lists(st.tuples(st.integers(1, 25), st.integers(0, 4).map(lambda lot: lot == 0)), max_size=25)
HABITS = st.builds(Habits, late_ms=st.sampled_from((0, 0, 5, 40)), stale=st.booleans())


@given(RUNS, LOOKS, HABITS)
@example([OneRun(1, 1, 9), OneRun(5, 5, 9)], [(9, True), (7, False), (8, False)], Habits(stale=True))
def test_a_rerun_is_counted_once_whatever_is_seen_of_it(
    runs: list[OneRun], looks: list[tuple[int, bool]], habits: Habits
) -> None:
    lived, reader, rows = lives(runs), Reader(), list[Job]()
    for at_ms, hides in zip(
        accumulate((pause for pause, _ in looks), initial=1_001), (hides for _, hides in looks), strict=False
    ):
        row, run, shown = sight(lived, at_ms, habits, hides)
        reader.see(row, run, shown)
        rows.append(row)
    assert reruns(rows) == reader.reruns


def row(status: str, updated_ms: int, started_ms: int | None = None, ended_ms: int | None = None) -> Job:
    return Job(1, "FRAME_EXTRACT", status, CREATED_MS, updated_ms, started_ms, ended_ms)


ENDED = row("RUN_FAILED", 1_500, 1_100, 1_500)
QUEUES = row("QUEUING", 1_600)
RUNS_AGAIN = row("RUNNING", 1_700, 1_700)
ENDS_AGAIN = row("FINISHED", 1_900, 1_700, 1_900)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([ENDED, QUEUES], 0, id="it has not started"),
        pytest.param([ENDED, QUEUES, RUNS_AGAIN, ENDS_AGAIN], 1, id="seen all the time"),
        pytest.param([ENDED, RUNS_AGAIN, ENDS_AGAIN], 1, id="seen once it has started"),
        pytest.param([ENDED, ENDS_AGAIN], 1, id="between two polls"),
        pytest.param([ENDED, row("RUNNING", 1_700, 1_500)], 1, id="it starts when the run before ends"),
        pytest.param([ENDED, row("QUEUING", 1_600, 1_100), RUNS_AGAIN], 1, id="a stale start"),
        pytest.param([ENDED, QUEUES, row("SUBMIT_FAILED", 1_800, None, 1_800)], 1, id="no start"),
        pytest.param(
            [
                row("UPLOAD_FAILED", 1_500, 1_100, 1_500),
                row("UPLOADING", 1_600, 1_100),
                row("FINISHED", 1_900, 1_100, 1_900),
            ],
            1,
            id="only the upload is repeated",
        ),
        pytest.param(
            [ENDED, QUEUES, RUNS_AGAIN, row("RUNNING", 1_750), row("RUNNING", 1_760, 1_700), ENDS_AGAIN],
            1,
            id="the start is gone for a while",
        ),
        pytest.param(
            [ENDED, row("FINISHED", 1_900, None, 1_900), row("FINISHED", 1_950, 1_700, 1_900)],
            1,
            id="the start shows after the end",
        ),
        pytest.param(
            [row("RUN_FAILED", 1_500, None, 1_500), row("RUN_FAILED", 1_600, 1_100, 1_500)], 0, id="late"
        ),
        pytest.param(
            [row("RUN_FAILED", 1_500, None, 1_500), row("QUEUING", 1_600, 1_100), RUNS_AGAIN],
            1,
            id="the start of the run before shows only now",
        ),
        pytest.param([row("RUNNING", 1_100, 1_100), RUNS_AGAIN], 0, id="no end was seen"),
        pytest.param(
            [ENDED, ENDS_AGAIN, row("RUNNING", 2_000, 2_000), row("STOPPED", 2_100, 2_000, 2_100)],
            2,
            id="two reruns",
        ),
    ],
)
def test_what_counts_as_a_rerun(rows: list[Job], expected: int) -> None:
    assert reruns(rows) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([RUNS_AGAIN, ENDS_AGAIN], 1, id="it is under way"),
        pytest.param([QUEUES, RUNS_AGAIN, ENDS_AGAIN], 1, id="it waits"),
        pytest.param([QUEUES, row("SUBMIT_FAILED", 1_800, None, 1_800)], 1, id="it never starts"),
        pytest.param([ENDED], 0, id="what was pruned shows up again"),
    ],
)
def test_a_job_that_was_pruned_runs_again(rows: list[Job], expected: int) -> None:
    assert reruns(rows, PRUNED) == expected
