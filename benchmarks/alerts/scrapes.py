"""
The samples that Prometheus would have scraped of a life, one each minute.

A failed poll changes only the metrics of polls. After five minutes of failed polls the job gauges are
dropped; counters stay constant and then continue from the ledger. A new series shows 0 for the first 90 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.life import Life
from benchmarks.alerts.project import MINUTES, Floats, Pauses, Span
from benchmarks.alerts.runs import FAILED, Runs
from exporter.model import IN_FLIGHT_STATUSES, JOB_TYPES, TERMINAL_STATUSES

# The name is in it, as __name__; sorted by name.
Labels = tuple[tuple[str, str], ...]
Series = dict[Labels, Floats]
# In the form for promtool: None for a missing sample.
Values = list[float | None]

RUNNING_BUCKETS = (10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800)
_MAX_AGE = 5
_POLLED_BEFORE_SCRAPE_SECONDS = 15
# A new counter series shows 0 in two scrapes, one minute apart, before it is released after 90 s.
_HELD = 2
# The parts of a job's time in flight: launching begins at 70 % of its wait, uploading at 90 % of its run.
_LAUNCHED, _UPLOADING = 0.7, 0.9


def scraped(life: Life, histograms: bool = True) -> Series:
    """
    Return all series by their labels: one value for each minute, NaN for a missing sample.

    Units: column m is the scrape at 60·m seconds since 1970. `histograms` are two thirds of the series.
    """
    exporter = _Exporter(life)
    parts = [exporter.polls(), exporter.counters(), exporter.gauges()]
    if histograms:
        parts.append(exporter.running())
    # A series with events only before the first minute, or only during pauses, has no sample.
    return {labels: values for part in parts for labels, values in part if np.isfinite(values).any()}


class Shown:
    """The poll that each scrape shows: `minute` of the last successful poll, `answers` if it was scraped."""

    def __init__(self, pauses: Pauses) -> None:
        self.answers = ~_inside(pauses.exporter)
        works = self.answers & ~_inside(pauses.api)
        self.minute = np.maximum.accumulate(np.where(works, np.arange(MINUTES), 0))
        self.is_fresh = np.arange(MINUTES) - self.minute <= _MAX_AGE

    def counter(self, each_minute: NDArray[np.int64], is_born: bool = True) -> Floats:
        """Return the cumulative counts. A series that begins with its first event is held at 0 first."""
        totals = np.cumsum(each_minute)[self.minute].astype(np.float64)
        if not is_born:
            first = int(np.argmax(totals > 0)) if totals[-1] else MINUTES
            totals[:first] = np.nan
            totals[first : first + _HELD] = 0
        return self.scraped(totals)

    def gauge(self, values: Floats) -> Floats:
        return self.scraped(np.where(self.is_fresh, values[self.minute], np.nan))

    def total(self, times: Floats, amounts: Floats) -> Floats:
        """Return the cumulative sum of an amount for each event, as of a histogram."""
        inside = (times >= 0) & (times < MINUTES - 1)
        each = np.bincount(seen_at(times[inside]), amounts[inside], MINUTES)[:MINUTES]
        return self.scraped(np.cumsum(each)[self.minute])

    def scraped(self, values: Floats) -> Floats:
        return np.where(self.answers, values, np.nan)


def seen_at(times: Floats) -> NDArray[np.int64]:
    """Return the first minute whose scrape can show an event; MINUTES if none can."""
    return np.clip(np.floor(times) + 1, 0, MINUTES).astype(np.int64)


def counted(times: Floats) -> NDArray[np.int64]:
    """Count events by the minute whose scrape first shows them. Earlier events are not counted."""
    inside = times[(times >= 0) & (times < MINUTES - 1)]
    return np.bincount(seen_at(inside), minlength=MINUTES)[:MINUTES]


def _inside(spans: tuple[Span, ...]) -> NDArray[np.bool_]:
    found = np.zeros(MINUTES, bool)
    for span in spans:
        found[span.begin : span.end] = True
    return found


class _Exporter:
    """One exporter in front of one project."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._runs = life.runs
        self._shown = Shown(life.pauses)
        names = [kind.job_type for kind in life.kinds]
        self._types = [*names, *(name for name in JOB_TYPES if name not in names)]
        self._by_kind = {name: self._rows(number) for number, name in enumerate(self._types)}

    def _rows(self, kind: int) -> Runs:
        return self._runs.where(self._runs.kind == kind)

    def polls(self) -> Iterator[tuple[Labels, Floats]]:
        yield labelled("up", job="octopus", instance="exporter"), self._shown.answers.astype(np.float64)
        shown = self._shown.minute
        yield self._name("octopus_up"), self._shown.scraped((shown == np.arange(MINUTES)).astype(np.float64))
        success = shown * 60.0 - _POLLED_BEFORE_SCRAPE_SECONDS
        yield self._name("octopus_poll_last_success_timestamp_seconds"), self._shown.scraped(success)
        name = "octopus_exporter_config_last_reload_success_timestamp_seconds"
        yield labelled(name, job="octopus", instance="exporter"), self._shown.scraped(np.zeros(MINUTES))

    def counters(self) -> Iterator[tuple[Labels, Floats]]:
        for job_type, runs in self._by_kind.items():
            is_known = job_type in JOB_TYPES
            born = self._shown.counter(counted(runs.created), is_known)
            yield self._name("octopus_jobs_created_total", job_type=job_type), born
            for number, status in enumerate(TERMINAL_STATUSES):
                of_status = runs.where(runs.outcome == number)
                labels = {"job_type": job_type, "status": status}
                if is_known or len(of_status):
                    values = self._shown.counter(counted(of_status.ended), is_known)
                    yield self._name("octopus_jobs_completed_total", **labels), values
                if number >= FAILED:
                    yield from self._by_code(of_status, is_known, labels)

    def _by_code(self, runs: Runs, is_known: bool, labels: dict[str, str]) -> Iterator[tuple[Labels, Floats]]:
        for code in sorted(
            {0, *np.unique(runs.code).tolist()} if is_known else np.unique(runs.code).tolist()
        ):
            values = self._shown.counter(counted(runs.ended[runs.code == code]), is_known and not code)
            more = {"msg_code": str(code)} if code else {}
            yield self._name("octopus_job_failures_total", **labels, **more), values

    def gauges(self) -> Iterator[tuple[Labels, Floats]]:
        for job_type, runs in self._by_kind.items():
            if not len(runs) and job_type not in JOB_TYPES:
                continue
            for status, stay in _stays(runs).items():
                labels = {"job_type": job_type, "status": status}
                yield self._name("octopus_jobs", **labels), self._shown.gauge(_present(stay))
                oldest = self._shown.gauge(_oldest(stay, stay.created))
                yield self._name("octopus_jobs_oldest_created_timestamp_seconds", **labels), oldest
                if status in IN_FLIGHT_STATUSES[2:]:
                    oldest = self._shown.gauge(_oldest(stay, stay.started))
                    yield self._name("octopus_jobs_oldest_started_timestamp_seconds", **labels), oldest
            for number, status in enumerate(TERMINAL_STATUSES):
                listed = np.cumsum(counted(runs.ended[runs.outcome == number])).astype(np.float64)
                name = self._name("octopus_jobs", job_type=job_type, status=status)
                yield name, self._shown.gauge(listed)

    def running(self) -> Iterator[tuple[Labels, Floats]]:
        """Yield the running histograms. The first event of one makes all its buckets appear, at 0."""
        family = "octopus_job_running_duration_seconds"
        for job_type, runs in self._by_kind.items():
            for number in np.unique(runs.outcome).tolist():
                of_status = runs.where((runs.outcome == number) & np.isfinite(runs.started))
                if not len(of_status):
                    continue
                labels = {"job_type": job_type, "status": TERMINAL_STATUSES[number]}
                seconds = (of_status.ended - of_status.started) * 60
                for bound in (*RUNNING_BUCKETS, np.inf):
                    values = self._shown.counter(counted(of_status.ended[seconds <= bound]))
                    le = "+Inf" if np.isinf(bound) else str(float(bound))
                    yield self._name(f"{family}_bucket", **labels, le=le), values
                yield self._name(f"{family}_count", **labels), values
                yield self._name(f"{family}_sum", **labels), self._shown.total(of_status.ended, seconds)

    def _name(self, family: str, **labels: str) -> Labels:
        every = {"project": self._life.project, "workspace": "0", "job": "octopus", "instance": "exporter"}
        return labelled(family, **every, **labels)


def labelled(family: str, **labels: str) -> Labels:
    return tuple(sorted([("__name__", family), *labels.items()]))


@dataclass(frozen=True, eq=False, slots=True)
class _Stay:
    """When jobs were in one status, created and started: one row for each job, in minutes."""

    begin: Floats
    end: Floats
    created: Floats
    started: Floats


def _stays(runs: Runs) -> dict[str, _Stay]:
    """Return the stays in each in-flight status. `started` is valid from RUNNING on."""
    waited = np.where(np.isfinite(runs.started), runs.started, runs.ended)
    launched = runs.created + (waited - runs.created) * _LAUNCHED
    ran = runs.where(np.isfinite(runs.started))
    uploading = ran.started + (ran.ended - ran.started) * _UPLOADING
    return {
        "QUEUING": _Stay(runs.created, launched, runs.created, runs.started),
        "LAUNCHING": _Stay(launched, waited, runs.created, runs.started),
        "RUNNING": _Stay(ran.started, uploading, ran.created, ran.started),
        "UPLOADING": _Stay(uploading, ran.ended, ran.created, ran.started),
    }


def _present(stay: _Stay) -> Floats:
    """Count the jobs in a status at each minute's poll."""
    begins, ends = (np.bincount(seen_at(times), minlength=MINUTES + 1) for times in (stay.begin, stay.end))
    return np.cumsum(begins - ends)[:MINUTES].astype(np.float64)


def _oldest(stay: _Stay, since: Floats) -> Floats:
    """
    Return the time (seconds) from which the oldest job's age counts, at each minute; NaN without a job.

    Two passes write the minutes of each job. The first goes by arrival in the status; the second, by age,
    overwrites it: each job gets the minutes that no older one has.
    """
    values = np.full(MINUTES, np.nan)
    for order in (np.argsort(stay.begin, kind="stable"), np.argsort(since, kind="stable")):
        first, last = seen_at(stay.begin[order]), seen_at(stay.end[order])
        first[1:] = np.maximum(first[1:], np.maximum.accumulate(last)[:-1])
        lengths = np.maximum(last - first, 0)
        begins = np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
        values[begins + np.arange(lengths.sum())] = np.repeat(np.round(since[order] * 60), lengths)
    return values
