"""
A target's snapshot as samples of families.

Units: milliseconds become seconds here, and nowhere else; so do thousandths of a core, a GPU or a GiB times
milliseconds. Thousandths of what a spec names become cores, GPUs and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, zip_longest
from typing import Any, TypeVar

import msgspec

from exporter.counting.resources import Resources, parse_spec
from exporter.exposition import families as f
from exporter.exposition.families import Family
from exporter.model import CounterValue, Exemplar, HistogramValue, PollStatus, Target, TargetSnapshot, Totals

_Key = TypeVar("_Key", bound=str | tuple[str, ...])
_Labels = tuple[str, ...]

CREATED = "_created"
_GIBIBYTE = 2**30


class Sample(msgspec.Struct, frozen=True, gc=False):
    """
    One line of a family.

    Shape: `labels` are the values for `Family.labels`; `suffix` and `le` as a histogram needs them. The time
    at which a series began is a separate line, with the suffix CREATED.
    """

    labels: tuple[str, ...]
    value: int | float
    exemplar: Exemplar | None = None
    suffix: str = ""
    le: float | None = None


@dataclass(frozen=True, slots=True)
class FamilySource:
    """
    How the samples of a family are made.

    Shape: `extract` returns all data that the family shows from a snapshot, or None if it shows nothing.
    `split` divides the data into parts that are rendered one by one, in the order of their labels. Equal data
    give equal lines, so that lines can be reused. `to_samples` makes samples of the data, sorted by labels;
    its first argument has the values of project and workspace.
    """

    extract: Callable[[TargetSnapshot], Any]
    to_samples: Callable[[_Labels, Any], list[Sample]]
    split: Callable[[Any], Mapping[str, Any]] = lambda extracted: {"": extracted}

    def parts(self, snapshot: TargetSnapshot) -> Mapping[str, Any]:
        """Return the data that the family shows, by part."""
        extracted = self.extract(snapshot)
        return {} if extracted is None else self.split(extracted)

    def samples(self, snapshot: TargetSnapshot, extracted: object) -> list[Sample]:
        """Make samples of the extracted data, the `_created` ones only if they are configured."""
        if extracted is None:
            return []
        samples = self.to_samples((snapshot.target.project, snapshot.target.workspace), extracted)
        if snapshot.created_series:
            return samples
        return [sample for sample in samples if sample.suffix != CREATED]


def _polling(extract: Callable[[PollStatus], Any]) -> Callable[[TargetSnapshot], Any]:
    """Extract from the state of polling."""
    return lambda snapshot: extract(snapshot.poll)


def _cumulative(extract: Callable[[Totals], Any]) -> Callable[[TargetSnapshot], Any]:
    """Extract data that stay valid while polls fail: a stale target keeps its counters."""
    return lambda snapshot: None if snapshot.totals is None else extract(snapshot.totals)


def _current(extract: Callable[[Totals], Any]) -> Callable[[TargetSnapshot], Any]:
    """Extract data that describe the present: a stale target does not show them."""
    return lambda snapshot: None if snapshot.totals is None or snapshot.stale else extract(snapshot.totals)


def named_by_specs(family: Family, specs: Iterable[str]) -> Mapping[str, int]:
    """Return how much of a resource each spec names that can be read, in thousandths of its unit."""
    read = ((spec, parse_spec(spec)) for spec in specs)
    return {spec: _NAMED[family](asked) for spec, asked in read if asked is not None}


_NAMED: Mapping[Family, Callable[[Resources], int]] = {
    f.RESOURCE_SPEC_CORES: lambda asked: asked.cores,
    f.RESOURCE_SPEC_GPUS: lambda asked: asked.gpus,
    f.RESOURCE_SPEC_MEMORY: lambda asked: asked.memory * _GIBIBYTE,
}


def _by_spec(family: Family) -> FamilySource:
    named = _current(lambda totals: named_by_specs(family, {spec for spec, _ in totals.resource_jobs}))
    return FamilySource(named, _thousandths)


def _labels(key: str | _Labels) -> _Labels:
    return (key,) if isinstance(key, str) else key


def _number(at: _Labels, value: float) -> list[Sample]:
    # The sign turns True into 1.
    return [Sample(at, +value)]


def _numbers(at: _Labels, values: Mapping[_Key, int]) -> list[Sample]:
    return [Sample(at + _labels(key), +value) for key, value in sorted(values.items())]


def _thousandths(at: _Labels, values: Mapping[_Key, int]) -> list[Sample]:
    return [Sample(at + _labels(key), value / 1000) for key, value in sorted(values.items())]


def _time(at: _Labels, at_ms: int) -> list[Sample]:
    return [Sample(at, at_ms / 1000)]


def _project_info(_: _Labels, target: Target) -> list[Sample]:
    return [Sample((target.project, target.project_id, target.region, target.endpoint), 1)]


def _poll_counter(at: _Labels, counted: tuple[int, int | None]) -> list[Sample]:
    value, created_ms = counted
    return [Sample(at, value), *_created(at, created_ms)]


def _poll_counters(at: _Labels, counted: tuple[Mapping[str, int], int | None]) -> list[Sample]:
    values, created_ms = counted
    return [
        sample
        for key, value in sorted(values.items())
        for sample in _poll_counter((*at, key), (value, created_ms))
    ]


def _counters(
    at: _Labels, values: Mapping[_Key, CounterValue], *, divisor: int = 1, exemplars: bool = False
) -> list[Sample]:
    samples = []
    for key, counter in sorted(values.items()):
        labels = at + _labels(key)
        # Division of integers is exact to the last digit of the result, however large they are.
        value = counter.value if divisor == 1 else counter.value / divisor
        samples.append(Sample(labels, value, counter.exemplar if exemplars else None))
        samples += _created(labels, counter.created_ms)
    return samples


def _by_first_label(values: Mapping[_Key, HistogramValue]) -> Mapping[str, Any]:
    """
    Divide a large family by job type or resource spec.

    A run changes the series of one of them, and the others keep their lines.
    """
    parts: dict[str, dict[_Key, HistogramValue]] = {}
    for key, value in sorted(values.items()):
        parts.setdefault(_labels(key)[0], {})[key] = value
    return parts


def _histograms(
    at: _Labels, values: Mapping[_Key, HistogramValue], *, exemplars: bool = True
) -> list[Sample]:
    return [
        sample
        for key, value in sorted(values.items())
        for sample in _histogram(value if exemplars else replace(value, exemplars=()), at + _labels(key))
    ]


def _histogram(value: HistogramValue, labels: _Labels) -> Iterator[Sample]:
    bounds: Iterable[float] = (*value.bounds, float("inf"))
    for le, count, exemplar in zip_longest(bounds, accumulate(value.counts), value.exemplars):
        yield Sample(labels, count, exemplar, "_bucket", le)
    yield Sample(labels, sum(value.counts), suffix="_count")
    yield Sample(labels, value.sum_ms / 1000, suffix="_sum")
    yield from _created(labels, value.created_ms)


def _created(labels: _Labels, created_ms: int | None) -> tuple[Sample, ...]:
    return () if created_ms is None else (Sample(labels, created_ms / 1000, suffix=CREATED),)


# From thousandths of a core, a GPU or a GiB, times milliseconds.
_unit_seconds = partial(_counters, divisor=1_000_000)

SOURCES: Mapping[Family, FamilySource] = {
    f.JOBS: FamilySource(_current(lambda totals: totals.jobs), _numbers),
    f.JOBS_OLDEST_CREATED: FamilySource(_current(lambda totals: totals.oldest_created_ms), _thousandths),
    f.JOBS_OLDEST_STARTED: FamilySource(_current(lambda totals: totals.oldest_started_ms), _thousandths),
    f.JOBS_OLDER_THAN: FamilySource(_current(lambda totals: totals.older_than), _numbers),
    f.JOBS_CREATED: FamilySource(_cumulative(lambda totals: totals.created), _counters),
    f.JOBS_COMPLETED: FamilySource(_cumulative(lambda totals: totals.completed), _counters),
    f.JOB_FAILURES: FamilySource(
        _cumulative(lambda totals: totals.failures), partial(_counters, exemplars=True)
    ),
    f.JOB_SUBMITTING_DURATION: FamilySource(_cumulative(lambda totals: totals.submitting), _histograms),
    f.JOB_RUNNING_DURATION: FamilySource(
        _cumulative(lambda totals: totals.running), _histograms, _by_first_label
    ),
    f.RESOURCE_JOBS: FamilySource(_current(lambda totals: totals.resource_jobs), _numbers),
    f.RESOURCE_SPEC_CORES: _by_spec(f.RESOURCE_SPEC_CORES),
    f.RESOURCE_SPEC_GPUS: _by_spec(f.RESOURCE_SPEC_GPUS),
    f.RESOURCE_SPEC_MEMORY: _by_spec(f.RESOURCE_SPEC_MEMORY),
    # Without exemplars: octopus_job_submitting_duration_seconds has the same jobs.
    f.RESOURCE_SUBMITTING_DURATION: FamilySource(
        _cumulative(lambda totals: totals.resource_submitting),
        partial(_histograms, exemplars=False),
        _by_first_label,
    ),
    f.JOB_CORE_SECONDS: FamilySource(_cumulative(lambda totals: totals.core_seconds), _unit_seconds),
    f.JOB_GPU_SECONDS: FamilySource(_cumulative(lambda totals: totals.gpu_seconds), _unit_seconds),
    f.JOB_MEMORY_SECONDS: FamilySource(_cumulative(lambda totals: totals.memory_seconds), _unit_seconds),
    f.JOB_RERUNS: FamilySource(_cumulative(lambda totals: totals.reruns), _counters),
    f.ROWS_UNREADABLE: FamilySource(_current(lambda totals: totals.rows_unreadable), _number),
    f.UP: FamilySource(_polling(lambda poll: poll.up), _number),
    f.POLL_DURATION: FamilySource(_polling(lambda poll: poll.duration_seconds), _number),
    f.POLL_LAST_SUCCESS: FamilySource(_polling(lambda poll: poll.last_success_ms), _time),
    f.POLL_REQUESTS: FamilySource(_polling(lambda poll: poll.requests), _number),
    f.POLLS: FamilySource(_polling(lambda poll: (poll.polls, poll.began_ms)), _poll_counter),
    f.POLL_FAILURES: FamilySource(_polling(lambda poll: (poll.failures, poll.began_ms)), _poll_counters),
    f.POLLS_SKIPPED: FamilySource(_polling(lambda poll: (poll.skipped, poll.began_ms)), _poll_counter),
    f.API_FILTER_WORKS: FamilySource(_cumulative(lambda totals: totals.filters), _numbers),
    f.LEDGER_DRIFT: FamilySource(_current(lambda totals: totals.drift), _numbers),
    f.AUDIT_LAST: FamilySource(_cumulative(lambda totals: totals.last_audit_ms), _time),
    f.LEDGER_FULL_SYNCS: FamilySource(
        _polling(lambda poll: (poll.full_syncs, poll.began_ms)), _poll_counters
    ),
    f.PROJECT_INFO: FamilySource(lambda snapshot: snapshot.target, _project_info),
    f.LEASE_HELD: FamilySource(lambda snapshot: snapshot.held, _number),
}
