"""What a poll adds to the series of one target: pure addition, in the order the jobs were read."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection
from functools import cached_property

from exporter.counting.resources import is_unreadable, parse_spec
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
# So many are named, each once, in the log and on the status page: a server may invent specs without end.
UNREADABLE_SPECS_NAMED = 20
RESOURCE_SECONDS = (CORE_SECONDS, GPU_SECONDS, MEMORY_SECONDS)
# Reads the values of a label that have series already.
ReadLabels = Callable[[], Collection[str]]


class OwnLabels:
    """
    The values of a label that have series of their own; those that come later share the label "other".

    Shape: `read` gives the values that have series already. It is called at most once, for the first value
    that needs it: most polls have none. At most `most` values get series of their own, beside "" and "other".
    """

    def __init__(self, read: ReadLabels, most: int) -> None:
        self._read = read
        self._most = most

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self._read())

    @cached_property
    def _own(self) -> set[str]:
        return {*self.known} - {"", OTHER}

    def label(self, value: str) -> str:
        """Give the label of a value; a new value gets its own while there is room."""
        if value == "" or value in self._own:
            return value
        if value == OTHER or len(self._own) >= self._most:
            return OTHER
        self._own.add(value)
        return value


class Increments:
    """
    The additions of one poll, added up in place.

    Shape: `read_codes` and `read_specs` give the labels that have series already; `unreadable_specs` are the
    specs of counted runs and of jobs in flight that cannot be read, in the order they were seen.
    """

    def __init__(self, rules: CountingRules, read_codes: ReadLabels, read_specs: ReadLabels) -> None:
        self.rules = rules
        self.unreadable_specs: dict[str, None] = {}
        self._codes = OwnLabels(read_codes, rules.max_msg_codes)
        self._specs = OwnLabels(read_specs, rules.max_resource_specs)
        self._counts: Counter[SeriesKey] = Counter()
        self._seconds: Counter[SeriesKey] = Counter()
        self._exemplars: dict[SeriesKey, Exemplar | None] = {}
        self._buckets: dict[SeriesKey, _Buckets] = {}

    def add(self, job: Job, change: Transition, *, failed: bool) -> None:
        """Add what a transition counts; `failed` tells whether the run, if it ended, failed."""
        if change.created:
            self._counts[SeriesKey(CREATED, job.job_type)] += 1
        if change.rerun:
            self._counts[SeriesKey(RERUNS, job.job_type)] += 1
        if change.submitting_ms is not None:
            at_ms = job.updated_ms if job.started_ms is None else job.started_ms
            of_spec = SeriesKey(RESOURCE_SUBMITTING, "", resource_spec=self._specs.label(job.resource_spec))
            for key in (SeriesKey(SUBMITTING, job.job_type), of_spec):
                self._observe(key, change.submitting_ms, job.id, at_ms)
        if not change.ended:
            return
        at_ms = end_of(job)
        self._counts[SeriesKey(COMPLETED, job.job_type, job.status)] += 1
        if change.running_ms is not None:
            self._observe(SeriesKey(RUNNING, job.job_type, job.status), change.running_ms, job.id, at_ms)
            self._use(job, change.running_ms)
        if failed:
            key = SeriesKey(FAILURES, job.job_type, job.status, self._codes.label(job.msg_code))
            self._counts[key] += 1
            self._exemplars[key] = _later(self._exemplars.get(key), Exemplar(job.id, 1.0, at_ms))

    def in_flight(self, job: Job) -> str:
        """
        Give the label of what a job in flight asked for.

        The histogram of a new label is made now, empty. So it is shown at 0 before the job has started.
        """
        label = self._specs.label(job.resource_spec)
        if label not in self._specs.known:
            self._buckets_of(SeriesKey(RESOURCE_SUBMITTING, "", resource_spec=label))
        self._note_unreadable(job.resource_spec)
        return label

    def _use(self, job: Job, running_ms: int) -> None:
        """Add what a run has used, if its spec can be read."""
        asked = parse_spec(job.resource_spec)
        if asked is None:
            self._note_unreadable(job.resource_spec)
            return
        for family, thousandths in zip(
            RESOURCE_SECONDS, (asked.cores, asked.gpus, asked.memory), strict=True
        ):
            if thousandths and running_ms:
                self._seconds[SeriesKey(family, job.job_type, job.status)] += thousandths * running_ms

    def _note_unreadable(self, spec: str) -> None:
        if is_unreadable(spec) and len(self.unreadable_specs) < UNREADABLE_SPECS_NAMED:
            self.unreadable_specs.setdefault(spec)

    def _observe(self, key: SeriesKey, duration_ms: int, job_id: int, at_ms: int) -> None:
        self._buckets_of(key).observe(duration_ms, job_id, at_ms)

    def _buckets_of(self, key: SeriesKey) -> _Buckets:
        buckets = self._buckets.get(key)
        if buckets is None:
            buckets = self._buckets[key] = _Buckets(bounds_by_family(self.rules)[key.family])
        return buckets

    @property
    def counters(self) -> dict[SeriesKey, CounterValue]:
        return {key: CounterValue(count, self._exemplars.get(key)) for key, count in self._counts.items()}

    @property
    def resource_seconds(self) -> dict[SeriesKey, CounterValue]:
        """What runs have used, in thousandths of a core, of a GPU or of a GiB, times milliseconds."""
        return {key: CounterValue(used) for key, used in self._seconds.items()}

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


def bounds_by_family(rules: CountingRules) -> dict[str, tuple[float, ...]]:
    return {
        SUBMITTING: rules.submitting_bounds,
        RUNNING: rules.running_bounds,
        RESOURCE_SUBMITTING: rules.submitting_bounds,
    }


def add_counters(left: CounterValue, right: CounterValue) -> CounterValue:
    """Add two counts, with the later of their exemplars and the creation time of the left one."""
    return CounterValue(left.value + right.value, _later(left.exemplar, right.exemplar), left.created_ms)


def add_histograms(left: HistogramValue, right: HistogramValue) -> HistogramValue:
    """
    Add two histograms of the same bounds.

    Each bucket keeps the later exemplar; the creation time is that of the left one.
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
