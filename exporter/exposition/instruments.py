"""What the exporter measures of itself, with the client library: the API's answers, credentials, reloads."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

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

from exporter.errors import RETRY_REASONS
from exporter.exposition import families as f
from exporter.exposition.families import Family
from exporter.exposition.render import EOF, FamilyLines, Format

_REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_M = TypeVar("_M", Counter, Gauge, Histogram)


class Instruments:
    """The self metrics: an ApiObserver, and a collector, without `_created` series unless told otherwise."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self._registry = registry
        self._created = False
        self._requests = self._make(Counter, f.API_REQUESTS)
        self._durations = Histogram(
            f.API_REQUEST_DURATION.name,
            f.API_REQUEST_DURATION.help,
            f.API_REQUEST_DURATION.labels,
            unit=f.API_REQUEST_DURATION.unit,
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._retries = self._make(Counter, f.API_RETRIES)
        self._clock_skew = self._make(Gauge, f.API_CLOCK_SKEW)
        self._expiries: Callable[[], Mapping[str, float]] = dict
        self._loop_lag = Histogram(
            f.EVENT_LOOP_LAG.name,
            f.EVENT_LOOP_LAG.help,
            unit=f.EVENT_LOOP_LAG.unit,
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self._log_lines_dropped = self._make(Counter, f.LOG_LINES_DROPPED)
        self._events_dropped = self._make(Counter, f.EVENTS_DROPPED)
        self._events_pending = self._make(Gauge, f.EVENTS_PENDING)
        self._make(Gauge, f.BUILD_INFO).labels(version, platform.python_version()).set(1)
        self._reload_ok = self._make(Gauge, f.CONFIG_RELOAD_OK)
        self._reload_time = self._make(Gauge, f.CONFIG_RELOAD_TIME)

    def _make(self, kind: type[_M], family: Family) -> _M:
        return kind(family.name, family.help, family.labels, unit=family.unit, registry=self._registry)

    def request(self, project: str, code: str, seconds: float) -> None:
        self._requests.labels(project, code).inc()
        self._durations.labels(project).observe(seconds)

    def retry(self, project: str, reason: str) -> None:
        self._retries.labels(project, reason).inc()

    def clock_skew(self, project: str, seconds: float) -> None:
        self._clock_skew.labels(project).set(seconds)

    def loop_lag(self, seconds: float) -> None:
        """A timer of the event loop ran this much late."""
        self._loop_lag.observe(seconds)

    def log_line_dropped(self) -> None:
        """A log line was not written. Any thread may say so."""
        self._log_lines_dropped.inc()

    def log_lines_dropped(self) -> int:
        """Give how many log lines were dropped since the process started."""
        return _value(self._log_lines_dropped)

    def events_waiting_and_lost(self) -> tuple[int, int]:
        """Give how many events wait for their output, and how many were dropped since the process started."""
        return _value(self._events_pending), _value(self._events_dropped)

    def events_dropped(self, events: int) -> None:
        """So many more events will not be written."""
        self._events_dropped.inc(events)

    def events_pending(self, events: int) -> None:
        """So many events wait for their output."""
        self._events_pending.set(events)

    def show_expiries(self, expiries: Callable[[], Mapping[str, float]]) -> None:
        """
        Show from now on when each credentials' token or key ends, as this says when asked.

        Shape: Unix seconds by the credentials' name. It is asked in the thread that renders.
        """
        self._expiries = expiries

    def clock_skews(self) -> dict[str, float]:
        """Give each project's server's clock minus ours, in seconds, once it has answered."""
        return _by_label(self._clock_skew)

    def add_project(self, project: str) -> None:
        """Let the project's known series begin at 0."""
        self._durations.labels(project)
        for reason in RETRY_REASONS:
            self._retries.labels(project, reason)

    def forget_project(self, project: str) -> None:
        """Drop the series of a project that is no longer configured."""
        for metric in (self._requests, self._durations, self._retries, self._clock_skew):
            metric.remove_by_labels({"project": project})

    def reload_result(self, *, ok: bool, timestamp_seconds: float) -> None:
        """Note that the configuration was read then (Unix seconds), at the start or later."""
        self._reload_ok.set(ok)
        if ok:
            self._reload_time.set(timestamp_seconds)

    def show_created(self, wanted: bool) -> None:
        """Show when each series began, or not."""
        self._created = wanted

    def collect(self) -> Iterator[Metric]:
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
    """The client library's own `process_*` and `python_*`, read when asked for."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def tail(self, format_: Format) -> bytes:
        """Render them as the last part of an exposition, its end included."""
        if format_ is Format.TEXT:
            return generate_latest(self._registry)
        return _openmetrics(self._registry) + EOF


def _by_label(gauge: Gauge) -> dict[str, float]:
    """Give a gauge's values by its one label."""
    (metric,) = gauge.collect()
    return {label: sample.value for sample in metric.samples for label in sample.labels.values()}


def render_collector(collector: Collector) -> FamilyLines:
    """Render what the client library keeps, as it would itself."""
    return FamilyLines.of(generate_latest(collector), _openmetrics(collector))


def _openmetrics(collector: Collector) -> bytes:
    rendered: bytes = generate_openmetrics(collector)  # type: ignore[no-untyped-call]  # no annotation there
    return rendered.removesuffix(EOF)


def _value(metric: Counter | Gauge) -> int:
    """Give the value of a metric without labels."""
    (family,) = metric.collect()
    return sum(int(sample.value) for sample in family.samples if not sample.name.endswith("_created"))
