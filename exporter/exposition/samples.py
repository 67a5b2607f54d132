"""
What a target's snapshot says, as samples of families.

Units: milliseconds become seconds here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Any, TypeVar

import msgspec

from exporter.exposition import families as f
from exporter.exposition.families import Family
from exporter.model import CounterValue, Exemplar, HistogramValue, PollStatus, Target, TargetSnapshot, Totals

_Key = TypeVar("_Key", bound=str | tuple[str, ...])
_Labels = tuple[str, ...]

CREATED = "_created"


class Sample(msgspec.Struct, frozen=True, gc=False):
    """
    One line of a family.

    Shape: `labels` are the values for `Family.labels`; `suffix` and `le` as a histogram needs them. A series'
    birth is a line of its own, with CREATED for a suffix.
    """

    labels: tuple[str, ...]
    value: int | float
    exemplar: Exemplar | None = None
    suffix: str = ""
    le: float | None = None


@dataclass(frozen=True, slots=True)
class FamilySource:
    """
    Where the samples of a family come from.

    Shape: `read` picks from a snapshot all that the family shows of it, None for nothing: what is equal looks
    the same. `write` makes samples of that, sorted by labels, with project and workspace as `at`.
    """

    read: Callable[[TargetSnapshot], Any]
    write: Callable[[_Labels, Any], list[Sample]]

    def samples(self, snapshot: TargetSnapshot, shown: object) -> list[Sample]:
        """Write what was read of the snapshot, without the births of series where they are not wanted."""
        if shown is None:
            return []
        samples = self.write((snapshot.target.project, snapshot.target.workspace), shown)
        if snapshot.created_series:
            return samples
        return [sample for sample in samples if sample.suffix != CREATED]


def _poll(read: Callable[[PollStatus], Any]) -> Callable[[TargetSnapshot], Any]:
    """Read how the polling goes."""
    return lambda snapshot: read(snapshot.poll)


def _counted(read: Callable[[Totals], Any]) -> Callable[[TargetSnapshot], Any]:
    """Read what stays known of a target however old it is."""
    return lambda snapshot: None if snapshot.totals is None else read(snapshot.totals)


def _listed(read: Callable[[Totals], Any]) -> Callable[[TargetSnapshot], Any]:
    """Read what is only shown as long as it can be believed: a stale snapshot has none of it."""
    return lambda snapshot: None if snapshot.totals is None or snapshot.stale else read(snapshot.totals)


def _project(target: Target) -> _Labels:
    return (target.project, target.project_id, target.region, target.endpoint)


def _info(at: _Labels, labels: _Labels) -> list[Sample]:
    return [Sample(labels, 1)]


def _one(at: _Labels, value: float) -> list[Sample]:
    return [Sample(at, value)]


def _bit(at: _Labels, value: bool) -> list[Sample]:
    return [Sample(at, int(value))]


def _time(at: _Labels, at_ms: int) -> list[Sample]:
    return [Sample(at, at_ms / 1000)]


def _values(at: _Labels, values: Mapping[_Key, int]) -> list[Sample]:
    return [Sample(at + _labels(key), value) for key, value in sorted(values.items())]


def _bits(at: _Labels, values: Mapping[_Key, bool]) -> list[Sample]:
    return [Sample(at + _labels(key), int(value)) for key, value in sorted(values.items())]


def _times(at: _Labels, times_ms: Mapping[_Key, int]) -> list[Sample]:
    return [Sample(at + _labels(key), at_ms / 1000) for key, at_ms in sorted(times_ms.items())]


def _count(at: _Labels, counted: tuple[int, int | None]) -> list[Sample]:
    value, created_ms = counted
    return [Sample(at, value), *_birth(at, created_ms)]


def _counts(at: _Labels, counted: tuple[Mapping[str, int], int | None]) -> list[Sample]:
    values, created_ms = counted
    return [
        sample for key, value in sorted(values.items()) for sample in _count((*at, key), (value, created_ms))
    ]


def _counters(at: _Labels, values: Mapping[_Key, CounterValue]) -> list[Sample]:
    return [
        sample
        for key, found in sorted(values.items())
        for sample in _count(at + _labels(key), (found.value, found.created_ms))
    ]


def _failures(at: _Labels, values: Mapping[_Labels, CounterValue]) -> list[Sample]:
    return [
        sample
        for key, found in sorted(values.items())
        for sample in (
            Sample(at + key, found.value, found.exemplar),
            *_birth(at + key, found.created_ms),
        )
    ]


def _histograms(at: _Labels, values: Mapping[_Key, HistogramValue]) -> list[Sample]:
    return [
        sample for key, found in sorted(values.items()) for sample in _histogram(found, at + _labels(key))
    ]


def _histogram(value: HistogramValue, labels: _Labels) -> Iterator[Sample]:
    bounds: Iterable[float] = (*value.bounds, float("inf"))
    for le, count, exemplar in zip_longest(bounds, accumulate(value.counts), value.exemplars):
        yield Sample(labels, count, exemplar, "_bucket", le)
    yield Sample(labels, sum(value.counts), suffix="_count")
    yield Sample(labels, value.sum_ms / 1000, suffix="_sum")
    yield from _birth(labels, value.created_ms)


def _birth(labels: _Labels, created_ms: int | None) -> tuple[Sample, ...]:
    return () if created_ms is None else (Sample(labels, created_ms / 1000, suffix=CREATED),)


def _labels(key: str | _Labels) -> _Labels:
    return (key,) if isinstance(key, str) else key


SOURCES: Mapping[Family, FamilySource] = {
    f.JOBS: FamilySource(_listed(lambda totals: totals.jobs), _values),
    f.JOBS_OLDEST_CREATED: FamilySource(_listed(lambda totals: totals.oldest_created_ms), _times),
    f.JOBS_OLDEST_STARTED: FamilySource(_listed(lambda totals: totals.oldest_started_ms), _times),
    f.JOBS_OLDER_THAN: FamilySource(_listed(lambda totals: totals.older_than), _values),
    f.JOBS_CREATED: FamilySource(_counted(lambda totals: totals.created), _counters),
    f.JOBS_COMPLETED: FamilySource(_counted(lambda totals: totals.completed), _counters),
    f.JOB_FAILURES: FamilySource(_counted(lambda totals: totals.failures), _failures),
    f.JOB_SUBMITTING_DURATION: FamilySource(_counted(lambda totals: totals.submitting), _histograms),
    f.JOB_RUNNING_DURATION: FamilySource(_counted(lambda totals: totals.running), _histograms),
    f.ROWS_UNREADABLE: FamilySource(_listed(lambda totals: totals.rows_unreadable), _one),
    f.UP: FamilySource(_poll(lambda poll: poll.up), _bit),
    f.POLL_DURATION: FamilySource(_poll(lambda poll: poll.duration_seconds), _one),
    f.POLL_LAST_SUCCESS: FamilySource(_poll(lambda poll: poll.last_success_ms), _time),
    f.POLL_REQUESTS: FamilySource(_poll(lambda poll: poll.requests), _one),
    f.POLLS: FamilySource(_poll(lambda poll: (poll.polls, poll.began_ms)), _count),
    f.POLL_FAILURES: FamilySource(_poll(lambda poll: (poll.failures, poll.began_ms)), _counts),
    f.POLLS_SKIPPED: FamilySource(_poll(lambda poll: (poll.skipped, poll.began_ms)), _count),
    f.API_FILTER_WORKS: FamilySource(_counted(lambda totals: totals.filters), _bits),
    f.LEDGER_DRIFT: FamilySource(_listed(lambda totals: totals.drift), _values),
    f.AUDIT_LAST: FamilySource(_counted(lambda totals: totals.last_audit_ms), _time),
    f.LEDGER_FULL_SYNCS: FamilySource(_poll(lambda poll: (poll.full_syncs, poll.began_ms)), _counts),
    f.PROJECT_INFO: FamilySource(lambda snapshot: _project(snapshot.target), _info),
}
