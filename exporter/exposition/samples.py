"""
What a target's snapshot says, as samples of families.

Units: milliseconds become seconds here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, zip_longest
from typing import TypeVar

import msgspec

from exporter.exposition import families as f
from exporter.exposition.families import Family
from exporter.model import CounterValue, Exemplar, HistogramValue, PollStatus, TargetSnapshot, Totals

_Key = TypeVar("_Key", bound=str | tuple[str, ...])


class Sample(msgspec.Struct, frozen=True, gc=False):
    """
    One line of a family.

    Shape: `labels` are the values for `Family.labels`; `suffix` and `le` as a histogram needs them.
    """

    labels: tuple[str, ...]
    value: int | float
    exemplar: Exemplar | None = None
    suffix: str = ""
    le: float | None = None


Samples = Mapping[Family, list[Sample]]


def of_target(snapshot: TargetSnapshot) -> Samples:
    """
    Turn a snapshot into samples, sorted by labels.

    Shape: families without a sample may be missing. A stale snapshot has no gauges of jobs; what was
    counted and how the polling goes stays.
    """
    target, totals = snapshot.target, snapshot.totals
    at = (target.project, target.workspace)
    samples = _poll(snapshot.poll, at)
    samples[f.PROJECT_INFO] = [Sample((target.project, target.project_id, target.region, target.endpoint), 1)]
    if totals is not None:
        samples |= _counted(totals, at)
        if not snapshot.stale:
            samples |= _listed(totals, at)
    return samples


def _listed(totals: Totals, at: tuple[str, str]) -> dict[Family, list[Sample]]:
    return {
        f.JOBS: _values(totals.jobs, at),
        f.JOBS_OLDEST_CREATED: _values(_in_seconds(totals.oldest_created_ms), at),
        f.JOBS_OLDEST_STARTED: _values(_in_seconds(totals.oldest_started_ms), at),
        f.LEDGER_DRIFT: _values(totals.drift, at),
    }


def _counted(totals: Totals, at: tuple[str, str]) -> dict[Family, list[Sample]]:
    return {
        f.JOBS_CREATED: _counters(totals.created, at),
        f.JOBS_COMPLETED: _counters(totals.completed, at),
        f.JOB_FAILURES: _failures(totals.failures, at),
        f.JOB_SUBMITTING_DURATION: _histograms(totals.submitting, at),
        f.JOB_RUNNING_DURATION: _histograms(totals.running, at),
        f.API_FILTER_WORKS: _values({name: int(works) for name, works in totals.filters.items()}, at),
        f.AUDIT_LAST: _one(_seconds(totals.last_audit_ms), at),
    }


def _poll(poll: PollStatus, at: tuple[str, str]) -> dict[Family, list[Sample]]:
    return {
        f.UP: _one(None if poll.up is None else int(poll.up), at),
        f.POLL_DURATION: _one(poll.duration_seconds, at),
        f.POLL_LAST_SUCCESS: _one(_seconds(poll.last_success_ms), at),
        f.POLL_REQUESTS: _one(poll.requests, at),
        f.POLLS: _one(poll.polls, at),
        f.POLL_FAILURES: _values(poll.failures, at),
        f.POLLS_SKIPPED: _one(poll.skipped, at),
        f.LEDGER_FULL_SYNCS: _values(poll.full_syncs, at),
    }


def _one(value: float | None, at: tuple[str, str]) -> list[Sample]:
    return [] if value is None else [Sample(at, value)]


def _values(values: Mapping[_Key, int] | Mapping[_Key, float], at: tuple[str, str]) -> list[Sample]:
    return [Sample(at + _labels(key), value) for key, value in sorted(values.items())]


def _counters(values: Mapping[_Key, CounterValue], at: tuple[str, str]) -> list[Sample]:
    return [Sample(at + _labels(key), found.value) for key, found in sorted(values.items())]


def _failures(values: Mapping[tuple[str, str, str], CounterValue], at: tuple[str, str]) -> list[Sample]:
    return [Sample(at + key, found.value, found.exemplar) for key, found in sorted(values.items())]


def _histograms(values: Mapping[_Key, HistogramValue], at: tuple[str, str]) -> list[Sample]:
    return [
        sample for key, found in sorted(values.items()) for sample in _histogram(found, at + _labels(key))
    ]


def _histogram(value: HistogramValue, labels: tuple[str, ...]) -> Iterator[Sample]:
    bounds: Iterable[float] = (*value.bounds, float("inf"))
    for le, count, exemplar in zip_longest(bounds, accumulate(value.counts), value.exemplars):
        yield Sample(labels, count, exemplar, "_bucket", le)
    yield Sample(labels, sum(value.counts), suffix="_count")
    yield Sample(labels, value.sum_ms / 1000, suffix="_sum")


def _labels(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _in_seconds(times_ms: Mapping[_Key, int]) -> dict[_Key, float]:
    return {key: ms / 1000 for key, ms in times_ms.items()}
