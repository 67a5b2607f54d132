"""
What the history counts of a job's row: what the live counters do not count. Pure.

A row has the times of one run: the creation of its job, and the start and the end of the run. Without a
baseline `transition()` counts all of them; with the target's baseline it counts what the live counters count.
The history counts the difference. So nothing counts twice, and nothing is left out.

There is one exception. A server may write a row some seconds after a run has started or ended. If the first
poll came in between, a later poll counted the start or the end live, although it was before the baseline. The
ledger records the jobs of which this is true. Without such a record an end is taken as counted live if its
row was written after the baseline, and no longer after the end than this server usually takes (`lag_ms`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from exporter.backfill.plan import TargetPlan
from exporter.counting.transitions import Baseline, Transition, end_of, transition
from exporter.model import Job

# The clock of Prometheus may be behind ours. So what happened up to this long after the first live sample is
# moved to the time before it.
_CLOCK_TOLERANCE_MS = 300_000
_ALL_COUNTS = Baseline(None)


class PastKind(IntEnum):
    """What happens to a job. What happens at the same time is in this order."""

    CREATED = 0
    STARTED = 1
    ENDED = 2
    FORGOTTEN = 3  # the job leaves the lookback


@dataclass(frozen=True, slots=True)
class PastMoment:
    """
    Something that happens to a job.

    Shape: `counted` if the counters of the history count it, `shown` if the gauges show it. Units: `at_ms` by
    our own clock.
    """

    at_ms: int
    kind: PastKind
    counted: bool
    shown: bool


@dataclass(slots=True)
class LeftOut:
    """
    What the files lack, as numbers to print.

    Shape: `late` is what happened after the first live sample and before the baseline of its job type:
    neither the history nor the live counters have it. `counted_late` are ends just before the baseline that
    are taken as counted live, and `started_late` starts that are taken as not counted: the ledger has no
    record of them. `ran_again` are jobs whose earlier runs are unknown. `unreadable` are rows that cannot be
    read.
    """

    late: int = 0
    counted_late: int = 0
    started_late: int = 0
    ran_again: int = 0
    unreadable: int = 0


class Past:
    """
    What is written of the jobs of one target.

    Shape: `lag_ms` is how long after the end of a run the server usually writes its row; `lookback_ms` as
    poll.lookback, None for no limit.
    """

    def __init__(self, plan: TargetPlan, lookback_ms: int | None, lag_ms: int = 0) -> None:
        self.left_out = LeftOut()
        self._plan = plan
        self._lookback_ms = lookback_ms
        # If the live series are older than this ledger's counting, another ledger or a history counted first.
        is_older = plan.live.began_ms - plan.until_ms > _CLOCK_TOLERANCE_MS
        # What happened in between is in those series, so it is not reported as left out.
        self._known_until_ms = plan.live.began_ms if is_older else plan.until_ms
        self._too_late_ms = plan.until_ms + (0 if is_older else _CLOCK_TOLERANCE_MS)
        self._lag_ms = lag_ms

    def moments(self, job: Job) -> Iterator[PastMoment]:
        """Give what happened to a job before `until_ms`, in order."""
        plan = self._plan
        counted = self._left_out_by_live(job)
        shown = job.id not in plan.live.ran_again
        self.left_out.ran_again += not shown
        forgotten_ms = None if self._lookback_ms is None else job.created_ms + self._lookback_ms
        times = {PastKind.CREATED: job.created_ms, PastKind.STARTED: _time(job.started_ms)}
        if job.has_ended:
            times |= {PastKind.ENDED: end_of(job), PastKind.FORGOTTEN: forgotten_ms}
        before_ms = 0
        for kind, row_ms in times.items():
            if row_ms is None:
                continue
            # The times of a row may contradict each other: a job ends after its start, and so on.
            before_ms = at_ms = max(row_ms - plan.live.rows_ahead_ms, before_ms)
            counts = kind in counted and at_ms >= plan.from_ms
            if counts and at_ms >= self._too_late_ms:
                self.left_out.late += at_ms >= self._known_until_ms
                counts = False
            if counts:
                # Later than the first sample, so that this one is 0; no later than the last sample.
                at_ms = min(max(at_ms, plan.from_ms + 1), plan.until_ms - 1)
            if counts or (shown and at_ms < plan.until_ms):
                yield PastMoment(max(at_ms, plan.from_ms), kind, counts, shown)

    def _left_out_by_live(self, job: Job) -> set[PastKind]:
        """Name what counts of a job and was not counted live."""
        baseline_ms = self._plan.live.baselines.of(job.job_type).at_ms
        if baseline_ms is None:
            return set()  # all history was counted live
        all_of_it = _first_sight(job, _ALL_COUNTS)
        # Without `forgotten_before_ms`: a job that the ledger has forgotten was counted before.
        news = _first_sight(job, Baseline(baseline_ms))
        counted = set()
        if all_of_it.created and not news.created:
            counted.add(PastKind.CREATED)
        has_started, is_news = all_of_it.submitting_ms is not None, news.submitting_ms is not None
        if has_started and not (is_news or self._is_start_counted(job, baseline_ms)):
            counted.add(PastKind.STARTED)
        if all_of_it.ended and not self._is_end_counted(job, baseline_ms, is_news=news.ended):
            counted.add(PastKind.ENDED)
        return counted

    def _is_start_counted(self, job: Job, baseline_ms: int) -> bool:
        """Tell whether a start before the baseline was counted live."""
        live = self._plan.live
        if job.id in live.counted_starts:
            return True
        is_late = (job.started_ms or 0) >= baseline_ms - self._lag_ms and job.updated_ms >= baseline_ms
        self.left_out.started_late += is_late and not live.tells_of(job)
        return False

    def _is_end_counted(self, job: Job, baseline_ms: int, *, is_news: bool) -> bool:
        live = self._plan.live
        if job.id in live.counted_ends:
            return True
        if live.tells_of(job):
            # Without an end time, the end is the last update of the row, which may be much later.
            has_end = _time(job.ended_ms) is not None
            return is_news and (has_end or (job.id, _time(job.started_ms)) not in live.history_ends)
        is_late = not is_news and baseline_ms <= job.updated_ms <= end_of(job) + self._lag_ms
        self.left_out.counted_late += is_late
        return is_news or is_late


def _time(at_ms: int | None) -> int | None:
    """Give a time; 0 or less in a row means that there is none."""
    return at_ms if at_ms is not None and at_ms > 0 else None


def counted_at(job: Job, kind: PastKind) -> Transition:
    """Give what counts at a moment of a job, as `Increments.add` takes it."""
    all_of_it = _first_sight(job, _ALL_COUNTS)
    return replace(
        all_of_it,
        created=kind is PastKind.CREATED,
        submitting_ms=all_of_it.submitting_ms if kind is PastKind.STARTED else None,
        ended=kind is PastKind.ENDED,
        running_ms=all_of_it.running_ms if kind is PastKind.ENDED else None,
    )


def _first_sight(job: Job, baseline: Baseline) -> Transition:
    change = transition(None, job, baseline)
    if change is None:
        raise TypeError("the row of a job that is not known is never an old copy")
    return change
