"""The samples that Prometheus would have scraped of a life whose jobs wait, for the alerts about waiting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.project import Floats
from benchmarks.alerts.scrapes import Labels, Series, Shown, counted, labelled, seen_at
from benchmarks.alerts.waits.lives import WaitingLife
from exporter.config.settings import MetricsSettings

BUCKETS = MetricsSettings().submitting_buckets


def scraped(life: WaitingLife) -> Series:
    """Return the series by their labels: one value for each minute, NaN for a missing sample."""
    exporter = _Exporter(life)
    return {
        labels: values
        for part in (exporter.of_types(), exporter.of_specs())
        for labels, values in part
        if np.isfinite(values).any()
    }


class _Exporter:
    def __init__(self, life: WaitingLife) -> None:
        self._project = life.project
        self._queue = life.queue
        self._shown = Shown(life.queue.pauses)

    def of_types(self) -> Iterator[tuple[Labels, Floats]]:
        for number, job_type in enumerate(self._queue.job_types):
            rows = self._queue.kind == number
            for status, values in self._in_flight(rows):
                yield self._name("octopus_jobs", job_type=job_type, status=status), values
            name = self._name("octopus_job_submitting_duration_seconds_count", job_type=job_type)
            yield name, self._shown.counter(counted(self._queue.started[rows]))

    def of_specs(self) -> Iterator[tuple[Labels, Floats]]:
        """Yield the series of each spec. They begin when a job with the spec is seen for the first time."""
        family = "octopus_resource_submitting_duration_seconds"
        queue = self._queue
        for number, spec in enumerate(queue.specs):
            rows = queue.spec == number
            if not rows.any():
                continue
            is_known = np.arange(len(self._shown.minute)) >= seen_at(queue.created[rows]).min()
            for status, values in self._in_flight(rows):
                name = self._name("octopus_resource_jobs", resource_spec=spec, status=status)
                yield name, np.where(is_known, values, np.nan)
            started = queue.started[rows]
            seconds = (started - queue.created[rows]) * 60
            for bound in (*BUCKETS, np.inf):
                values = self._shown.counter(counted(started[seconds <= bound]))
                le = "+Inf" if np.isinf(bound) else str(float(bound))
                name = self._name(f"{family}_bucket", resource_spec=spec, le=le)
                yield name, np.where(is_known, values, np.nan)
            yield self._name(f"{family}_count", resource_spec=spec), np.where(is_known, values, np.nan)
            values = self._shown.total(started, seconds)
            yield self._name(f"{family}_sum", resource_spec=spec), np.where(is_known, values, np.nan)

    def _in_flight(self, rows: NDArray[np.bool_]) -> Iterator[tuple[str, Floats]]:
        queue = self._queue
        stays = {
            "QUEUING": (queue.created[rows], queue.launched[rows]),
            "LAUNCHING": (queue.launched[rows], queue.started[rows]),
        }
        for status, (begins, ends) in stays.items():
            steps = [
                np.bincount(seen_at(times), minlength=len(self._shown.minute) + 1) for times in (begins, ends)
            ]
            yield status, self._shown.gauge(np.cumsum(steps[0] - steps[1])[:-1].astype(np.float64))

    def _name(self, family: str, **labels: str) -> Labels:
        every = {"project": self._project, "workspace": "0", "job": "octopus", "instance": "exporter"}
        return labelled(family, **every, **labels)
