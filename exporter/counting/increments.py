"""What a poll adds to the series of one target: pure addition, in the order the jobs were read."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from exporter.counting.rules import CountingRules
from exporter.counting.transitions import Transition, end_of
from exporter.model import OTHER, CounterValue, Exemplar, HistogramValue, Job, SeriesKey

SUBMITTING = "submitting"
RUNNING = "running"
CREATED = "created"
COMPLETED = "completed"
FAILURES = "failures"


@dataclass(slots=True)
class Increments:
    """
    The additions of one poll.

    Shape: `msg_codes` are the codes that have a series of their own, and grows with the first codes seen.
    """

    rules: CountingRules
    msg_codes: set[str]
    counters: dict[SeriesKey, CounterValue] = field(default_factory=dict)
    histograms: dict[SeriesKey, HistogramValue] = field(default_factory=dict)

    def add(self, job: Job, change: Transition, *, failed: bool) -> None:
        """Add what one transition says is to be counted; `failed` if the run failed, should it have ended."""
        if change.created:
            self._count(SeriesKey(CREATED, job.job_type))
        if change.submitting_ms is not None:
            key = SeriesKey(SUBMITTING, job.job_type)
            at_ms = job.updated_ms if job.started_ms is None else job.started_ms
            self._observe(key, self.rules.submitting_bounds, change.submitting_ms, job.id, at_ms)
        if change.ended:
            self._end(job, change, failed)

    def _end(self, job: Job, change: Transition, failed: bool) -> None:
        self._count(SeriesKey(COMPLETED, job.job_type, job.status))
        at_ms = end_of(job)
        if change.running_ms is not None:
            key = SeriesKey(RUNNING, job.job_type, job.status)
            self._observe(key, self.rules.running_bounds, change.running_ms, job.id, at_ms)
        if failed:
            key = SeriesKey(FAILURES, job.job_type, job.status, self._code(job.msg_code))
            self._count(key, Exemplar(job.id, 1.0, at_ms))

    def _code(self, msg_code: str) -> str:
        if msg_code == "" or msg_code in self.msg_codes:
            return msg_code
        if len(self.msg_codes) >= self.rules.max_msg_codes:
            return OTHER
        self.msg_codes.add(msg_code)
        return msg_code

    def _count(self, key: SeriesKey, exemplar: Exemplar | None = None) -> None:
        self.counters[key] = add_counters(self.counters.get(key, CounterValue()), CounterValue(1, exemplar))

    def _observe(
        self, key: SeriesKey, bounds: tuple[float, ...], duration_ms: int, job_id: int, at_ms: int
    ) -> None:
        seconds = duration_ms / 1000
        bucket = bisect_left(bounds, seconds)
        before = self.histograms.get(key) or HistogramValue.empty(bounds)
        one = HistogramValue(
            bounds,
            tuple(int(i == bucket) for i in range(len(bounds) + 1)),
            duration_ms,
            tuple(Exemplar(job_id, seconds, at_ms) if i == bucket else None for i in range(len(bounds) + 1)),
        )
        self.histograms[key] = add_histograms(before, one)


def add_counters(left: CounterValue, right: CounterValue) -> CounterValue:
    """Add two counts; of their exemplars the later stays, and the left one's beginning."""
    return CounterValue(left.value + right.value, _later(left.exemplar, right.exemplar), left.created_ms)


def add_histograms(left: HistogramValue, right: HistogramValue) -> HistogramValue:
    """
    Add two histograms of the same bounds; of each bucket's exemplars the later stays, and the left one's
    beginning.
    """
    return HistogramValue(
        left.bounds,
        tuple(a + b for a, b in zip(left.counts, right.counts, strict=True)),
        left.sum_ms + right.sum_ms,
        tuple(_later(a, b) for a, b in zip(left.exemplars, right.exemplars, strict=True)),
        left.created_ms,
    )


def _later(left: Exemplar | None, right: Exemplar | None) -> Exemplar | None:
    if left is None or right is None:
        return left or right
    return right if right.at_ms >= left.at_ms else left
