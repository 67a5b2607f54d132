"""What a poll adds to the series of one target: pure addition, in the order the jobs were read."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from exporter.counting.rules import CountingRules
from exporter.counting.transitions import Transition, end_of
from exporter.model import OTHER, CounterValue, Exemplar, HistogramValue, Job, SeriesKey

SUBMITTING = "submitting"
RUNNING = "running"
CREATED = "created"
COMPLETED = "completed"
FAILURES = "failures"
RERUNS = "reruns"
RESOURCE_SUBMITTING = "resource_submitting"
CORE_SECONDS = "core_seconds"
GPU_SECONDS = "gpu_seconds"
MEMORY_SECONDS = "memory_seconds"


class Increments:
    """
    The additions of one poll, added up in place.

    Shape: `msg_codes` are the codes that have a series of their own, and grows with the first codes seen.
    """

    def __init__(self, rules: CountingRules, msg_codes: set[str]) -> None:
        self.rules = rules
        self.msg_codes = msg_codes
        self._counts: Counter[SeriesKey] = Counter()
        self._exemplars: dict[SeriesKey, Exemplar | None] = {}
        self._buckets: dict[SeriesKey, _Buckets] = {}

    def add(self, job: Job, change: Transition, *, failed: bool) -> None:
        """Add what one transition says is to be counted; `failed` if the run failed, should it have ended."""
        if change.created:
            self._counts[SeriesKey(CREATED, job.job_type)] += 1
        if change.submitting_ms is not None:
            at_ms = job.updated_ms if job.started_ms is None else job.started_ms
            self._observe(SeriesKey(SUBMITTING, job.job_type), change.submitting_ms, job.id, at_ms)
        if not change.ended:
            return
        at_ms = end_of(job)
        self._counts[SeriesKey(COMPLETED, job.job_type, job.status)] += 1
        if change.running_ms is not None:
            self._observe(SeriesKey(RUNNING, job.job_type, job.status), change.running_ms, job.id, at_ms)
        if failed:
            key = SeriesKey(FAILURES, job.job_type, job.status, self._code(job.msg_code))
            self._counts[key] += 1
            self._exemplars[key] = _later(self._exemplars.get(key), Exemplar(job.id, 1.0, at_ms))

    def _code(self, msg_code: str) -> str:
        if msg_code == "" or msg_code in self.msg_codes:
            return msg_code
        if len(self.msg_codes) >= self.rules.max_msg_codes:
            return OTHER
        self.msg_codes.add(msg_code)
        return msg_code

    def _observe(self, key: SeriesKey, duration_ms: int, job_id: int, at_ms: int) -> None:
        buckets = self._buckets.get(key)
        if buckets is None:
            buckets = self._buckets[key] = _Buckets(bounds_of(key, self.rules))
        buckets.observe(duration_ms, job_id, at_ms)

    @property
    def counters(self) -> dict[SeriesKey, CounterValue]:
        return {key: CounterValue(count, self._exemplars.get(key)) for key, count in self._counts.items()}

    @property
    def histograms(self) -> dict[SeriesKey, HistogramValue]:
        return {key: buckets.value for key, buckets in self._buckets.items()}


class _Buckets:
    """A histogram that is added to in place: new tuples for each observation cost ten times as much."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._sum_ms = 0

    def observe(self, duration_ms: int, job_id: int, at_ms: int) -> None:
        seconds = duration_ms / 1000
        bucket = bisect_left(self._bounds, seconds)
        self._counts[bucket] += 1
        self._sum_ms += duration_ms
        self._exemplars[bucket] = _later(self._exemplars[bucket], Exemplar(job_id, seconds, at_ms))

    @property
    def value(self) -> HistogramValue:
        return HistogramValue(self._bounds, tuple(self._counts), self._sum_ms, tuple(self._exemplars))


def bounds_of(key: SeriesKey, rules: CountingRules) -> tuple[float, ...]:
    return rules.submitting_bounds if key.family == SUBMITTING else rules.running_bounds


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
