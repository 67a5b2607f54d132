"""
Makes the samples of each day from moments in order of time: pure.

A value that does not change is kept once: a day has the points at which a series changes, and a value holds
until the next point. So memory holds only the changes of two days.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from exporter.backfill.past import PastKind, PastMoment, counted_at
from exporter.backfill.plan import DAY_MS, BackfillPlan, TargetPlan
from exporter.counting.increments import COMPLETED, CREATED, Increments, add_counters, add_histograms
from exporter.model import TERMINAL_STATUSES, CounterValue, HistogramValue, Job, SeriesKey

# The families of gauges, beside those of counting.increments.
JOBS = "jobs"
RESOURCE_JOBS = "resource_jobs"

SeriesValue = int | CounterValue | HistogramValue
SpooledMoment = tuple[Job, PastMoment, bool]


@dataclass(slots=True)
class TargetDay:
    """
    One day of a target's series.

    Shape: `times_ms` are the times of its samples. `points` has the values of each series, each with the
    index of the time from which it holds. `born` are new series that increase at the first of these times:
    the day before has to end with a 0 of each, else `increase()` would not see this increase.
    """

    times_ms: list[int]
    points: dict[SeriesKey, list[tuple[int, SeriesValue]]] = field(default_factory=dict)
    born: dict[SeriesKey, SeriesValue] = field(default_factory=dict)

    def end_at_zero(self, born: Mapping[SeriesKey, SeriesValue]) -> None:
        """End with a 0 of each series that is born with the next day."""
        if self.times_ms:
            self.points |= {key: [(len(self.times_ms) - 1, zero_of(value))] for key, value in born.items()}


def zero_of(value: SeriesValue) -> SeriesValue:
    if isinstance(value, HistogramValue):
        return HistogramValue.empty(value.bounds)
    return CounterValue() if isinstance(value, CounterValue) else 0


def _is_zero(value: SeriesValue) -> bool:
    if isinstance(value, HistogramValue):
        return not any(value.counts)
    return not (value.value if isinstance(value, CounterValue) else value)


class TargetHistory:
    """The series of one target, as its moments are added in order of time."""

    def __init__(self, plan: TargetPlan, backfill: BackfillPlan) -> None:
        self._plan = plan
        self._rules = backfill.rules
        self._step_ms = backfill.step_ms
        self._codes = {*plan.live.msg_codes}
        self._specs = {*plan.live.resource_specs}
        self._values: dict[SeriesKey, SeriesValue] = {}
        self._gauges: Counter[SeriesKey] = Counter()

    def times_ms(self, day_ms: int) -> list[int]:
        """Give the times of a day's samples; the last day ends with one just before `until_ms`."""
        plan, step_ms = self._plan, self._step_ms
        begin_ms, end_ms = max(day_ms, plan.from_ms), min(day_ms + DAY_MS, plan.until_ms)
        times = list(range(-(-begin_ms // step_ms) * step_ms, end_ms, step_ms))
        last_ms = plan.until_ms - 1
        if begin_ms <= last_ms < day_ms + DAY_MS and last_ms not in times[-1:]:
            times.append(last_ms)
        return times

    def day(self, day_ms: int, moments: Iterable[SpooledMoment]) -> TargetDay:
        """Add the moments up to the last sample of a day."""
        day = TargetDay(self.times_ms(day_ms))
        if day.times_ms:
            day.points = {key: [(0, value)] for key, value in self._values.items()}
        for index, some in groupby(moments, lambda spooled: bisect_left(day.times_ms, spooled[1].at_ms)):
            for key, value in self.add(some).items():
                points = day.points.get(key)
                if points is None:
                    if index:
                        day.points[key] = [(index - 1, zero_of(value)), (index, value)]
                    else:
                        day.points[key] = [(index, value)]
                        day.born[key] = value
                elif points[-1][0] == index:
                    points[-1] = (index, value)
                else:
                    points.append((index, value))
        return day

    def add(self, moments: Iterable[SpooledMoment]) -> dict[SeriesKey, SeriesValue]:
        """Add some moments, and give the values that have changed."""
        increments = Increments(self._rules, lambda: self._codes, lambda: self._specs)
        shown: Counter[SeriesKey] = Counter()
        for job, moment, failed in moments:
            if moment.counted:
                increments.add(job, counted_at(job, moment.kind), failed=failed)
            if moment.shown:
                for key, more in _moved(job, moment.kind, increments.in_flight(job)):
                    shown[key] += more
        changed: dict[SeriesKey, SeriesValue] = {}
        for key, more in shown.items():
            changed[key] = self._gauges[key] = self._gauges[key] + more
        for key, count in (increments.counters | increments.resource_seconds).items():
            known = self._values.get(key)
            changed[key] = add_counters(known, count) if isinstance(known, CounterValue) else count
            self._codes.add(key.msg_code)
        for key, observed in increments.histograms.items():
            known = self._values.get(key)
            changed[key] = add_histograms(known, observed) if isinstance(known, HistogramValue) else observed
            self._specs.add(key.resource_spec)
        changed = {key: value for key, value in changed.items() if key in self._values or not _is_zero(value)}
        changed = self._without_events(changed) | changed
        self._values |= changed
        return changed

    def _without_events(self, changed: Iterable[SeriesKey]) -> dict[SeriesKey, SeriesValue]:
        """
        Give a 0 for each status in which no run of a new job type has ended yet, as the live series have it.

        Rules compare failures with runs, and a missing series is not a 0.
        """
        types = {key.job_type for key in changed if key.family in {CREATED, COMPLETED}}
        keys = (SeriesKey(COMPLETED, job_type, status) for job_type in types for status in TERMINAL_STATUSES)
        return {key: CounterValue() for key in keys if key not in self._values}


def _moved(job: Job, kind: PastKind, spec: str) -> list[tuple[SeriesKey, int]]:
    """
    Give by how much the gauges change at a moment of a job.

    A row has the times at which a job was created, started and ended. So a job that waits is shown as
    QUEUING, and one that has started as RUNNING: when it was LAUNCHING or UPLOADING is unknown.
    """
    has_started = job.started_ms is not None and job.started_ms > 0
    waits, runs = ("QUEUING", 1), ("RUNNING", 1)
    left, entered = {
        PastKind.CREATED: (None, waits),
        PastKind.STARTED: (waits, runs),
        PastKind.ENDED: (runs if has_started else waits, None),
        PastKind.FORGOTTEN: (None, None),
    }[kind]
    moved = []
    for place, sign in ((left, -1), (entered, 1)):
        if place is not None:
            moved.append((SeriesKey(JOBS, job.job_type, place[0]), sign))
            moved.append((SeriesKey(RESOURCE_JOBS, "", place[0], resource_spec=spec), sign))
    if kind is PastKind.ENDED:
        moved.append((SeriesKey(JOBS, job.job_type, job.status), 1))
    if kind is PastKind.FORGOTTEN:
        moved.append((SeriesKey(JOBS, job.job_type, job.status), -1))
    return moved
