"""
The exporter's metrics of itself: API requests by project, credentials, reloads, the log and the event loop.

Those of the projects are rendered by our own code, where something changed; the few others by the client
library, in every round.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.exposition import families as f
from exporter.exposition.families import PROJECT_FAMILIES, Family
from exporter.exposition.project_metrics import ProjectMetrics
from exporter.exposition.render import EOF, FamilyLines, Format, runs

_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_M = TypeVar("_M", Counter, Gauge, Histogram)


class Instruments:
    """
    The self metrics: an ApiObserver, and a collector of the metrics without a project.

    `_created` series are off until `show_created`.
    """

    def __init__(
        self, registry: CollectorRegistry, version: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._created = False
        self._projects: dict[str, ProjectMetrics] = {}
        self._expiries: Callable[[], Mapping[str, float]] = dict
        self._loop_lag = self._make(Histogram, f.EVENT_LOOP_LAG, buckets=_LAG_BUCKETS)
        self._log_lines_dropped = self._make(Counter, f.LOG_LINES_DROPPED)
        self._events_dropped = self._make(Counter, f.EVENTS_DROPPED)
        self._events_pending = self._make(Gauge, f.EVENTS_PENDING)
        self._leases_lost = self._make(Counter, f.LEASES_LOST)
        self._make(Gauge, f.BUILD_INFO).labels(version, platform.python_version()).set(1)
        self._reload_ok = self._make(Gauge, f.CONFIG_RELOAD_OK)
        self._reload_time = self._make(Gauge, f.CONFIG_RELOAD_TIME)

    def _make(self, kind: type[_M], family: Family, **options: Any) -> _M:
        return kind(
            family.name, family.help, family.labels, unit=family.unit, registry=self._registry, **options
        )

    def request(self, project: str, code: str, seconds: float) -> None:
        self.add_project(project).request(code, seconds)

    def retry(self, project: str, reason: str) -> None:
        self.add_project(project).retry(reason)

    def clock_skew(self, project: str, seconds: float) -> None:
        self.add_project(project).set_clock_skew(seconds)

    def loop_lag(self, seconds: float) -> None:
        """Observe how much later than due a timer of the event loop ran."""
        self._loop_lag.observe(seconds)

    def log_line_dropped(self) -> None:
        """Count a log line that was not written; any thread may call this."""
        self._log_lines_dropped.inc()

    def log_lines_dropped(self) -> int:
        """Return the number of log lines dropped since the process started."""
        return _value(self._log_lines_dropped)

    def events_waiting_and_lost(self) -> tuple[int, int]:
        """Return the number of events that wait for their output, and of those dropped since the start."""
        return _value(self._events_pending), _value(self._events_dropped)

    def events_dropped(self, events: int) -> None:
        """Count events that will never be written."""
        self._events_dropped.inc(events)

    def events_pending(self, events: int) -> None:
        """Set the number of events that wait for their output."""
        self._events_pending.set(events)

    def leases_lost(self, leases: int) -> None:
        """Count leases that ended, or went to another replica, before they were given back."""
        self._leases_lost.inc(leases)

    def show_expiries(self, expiries: Callable[[], Mapping[str, float]]) -> None:
        """
        Show from now on when each credentials' token or key expires.

        Shape: `expiries` returns Unix seconds by the credentials' name; it is called by the rendering thread.
        """
        self._expiries = expiries

    def clock_skews(self) -> dict[str, float]:
        """Return the server's clock minus ours, in seconds, by project; none before its first response."""
        skews = {name: project.clock_skew for name, project in self._projects.items()}
        return {name: skew for name, skew in skews.items() if skew is not None}

    def add_project(self, project: str) -> ProjectMetrics:
        """Create the project's known series at 0, unless they are there."""
        found = self._projects.get(project)
        if found is None:
            found = self._projects[project] = ProjectMetrics(project, self._clock)
        return found

    def forget_project(self, project: str) -> None:
        """Drop the series of a project that is no longer configured."""
        self._projects.pop(project, None)

    def reload_result(self, *, ok: bool, timestamp_seconds: float) -> None:
        """Note whether the configuration could be read, and when (Unix seconds), at the start or later."""
        self._reload_ok.set(ok)
        if ok:
            self._reload_time.set(timestamp_seconds)

    def show_created(self, wanted: bool) -> None:
        self._created = wanted

    def render(self) -> list[Sequence[FamilyLines]]:
        """Render each family; of the projects' metrics only what has changed."""
        # A copy: the event loop's thread may add a project meanwhile.
        projects = sorted(self._projects.copy().items())
        parts = [project.render(created=self._created) for _, project in projects]
        return [*runs(PROJECT_FAMILIES, parts), [render_collector(self)]]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics without a project, for the client library's rendering."""
        for metric in self._registry.collect():
            if not self._created:
                created = metric.name + "_created"
                metric.samples = [sample for sample in metric.samples if sample.name != created]
            yield metric
        family = f.CREDENTIALS_EXPIRY
        expiry = GaugeMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
        for credentials, timestamp_seconds in sorted(self._expiries().items()):
            expiry.add_metric([credentials], timestamp_seconds)
        yield expiry


class ProcessMetrics:
    """The client library's `process_*` and `python_*` metrics, read at a scrape."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def tail(self, format_: Format) -> bytes:
        """Render them as the last part of an exposition, its end included."""
        if format_ is Format.TEXT:
            return generate_latest(self._registry)
        return _openmetrics(self._registry) + EOF


def render_collector(collector: Collector) -> FamilyLines:
    """Render a collector of the client library, with the library's own functions."""
    return FamilyLines.of(generate_latest(collector), _openmetrics(collector))


def _openmetrics(collector: Collector) -> bytes:
    rendered: bytes = generate_openmetrics(collector)  # type: ignore[no-untyped-call]  # no annotation there
    return rendered.removesuffix(EOF)


def _value(metric: Counter | Gauge) -> int:
    """Return the value of a metric without labels."""
    (family,) = metric.collect()
    return sum(int(sample.value) for sample in family.samples if not sample.name.endswith("_created"))
