"""
The targets of the benchmarks of the exposition; each of their series has a value.

Usage: python -m benchmarks.published SERIES PORT [--peer]. Serves that many series on /metrics, with the
exporter's code or, with --peer, with the client library's own handler for aiohttp, with the same families.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from math import ceil
from typing import cast

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.utils import floatToGoString

from exporter import __version__
from exporter.config import ListenAddress
from exporter.config.settings import MetricsSettings
from exporter.exposition.families import TARGET_FAMILIES, Family
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.exposition.samples import SOURCES, Sample
from exporter.model import (
    FAILED_STATUSES,
    IN_FLIGHT_STATUSES,
    JOB_TYPES,
    STATUSES,
    TERMINAL_STATUSES,
    CounterValue,
    Exemplar,
    HistogramValue,
    PollStatus,
    Target,
    TargetSnapshot,
    Totals,
)
from exporter.web.app import Exporter, create_app
from exporter.web.server import Server, bind_all

_NOW_MS = 1_700_000_000_123
_CONFIGURED = MetricsSettings()
_SPECS = (
    "2Core_4GiB",
    "4Core_8GiB",
    "8Core_16GiB",
    "16Core_32GiB",
    "P100_1Gpu_8Core_32GiB",
    "V100_1Gpu_8Core_64GiB",
)


def snapshots(series: int) -> list[TargetSnapshot]:
    """Make targets with at least so many series in total."""
    each = len(list(_samples([snapshot(0)])))
    return [snapshot(number) for number in range(ceil(series / each))]


def numbered_target(number: int) -> Target:
    """Make a target without configured job types."""
    return Target(
        project=f"project-{number:03d}",
        project_id=f"{number:032x}",
        workspace="0",
        workspace_id="0",
        region="cn-north-11",
        endpoint="https://octopus.cn-north-11.myhuaweicloud.com",
        path="system-jobs",
        job_types=(),
        credentials="default",
    )


def snapshot(number: int, polls: int = 1) -> TargetSnapshot:
    """Make the snapshot of a target after so many polls. Every poll changes every family."""
    n = number + polls
    poll = PollStatus(True, 0.5 + n / 1000, 3, None, _NOW_MS + n, polls=polls)
    return TargetSnapshot(numbered_target(number), _totals(n), poll)


def _totals(n: int) -> Totals:
    ends = [(kind, status) for kind in JOB_TYPES for status in TERMINAL_STATUSES]
    in_flight = [(kind, status) for kind in JOB_TYPES for status in IN_FLIGHT_STATUSES]
    exemplar = Exemplar(10_000_000 + n, 1.0, _NOW_MS + n)
    return Totals(
        jobs={(kind, status): n for kind in JOB_TYPES for status in STATUSES},
        oldest_created_ms=dict.fromkeys(in_flight, _NOW_MS - n),
        oldest_started_ms=dict.fromkeys(in_flight[1:], _NOW_MS - n),
        created=dict.fromkeys(JOB_TYPES, CounterValue(n)),
        completed=dict.fromkeys(ends, CounterValue(n)),
        failures={
            (kind, status, ""): CounterValue(n, exemplar) for kind in JOB_TYPES for status in FAILED_STATUSES
        },
        submitting=dict.fromkeys(JOB_TYPES, _histogram(_CONFIGURED.submitting_buckets, n)),
        running=dict.fromkeys(ends, _histogram(_CONFIGURED.running_buckets, n)),
        resource_jobs={(spec, status): n for spec in _SPECS for status in IN_FLIGHT_STATUSES},
        resource_submitting=dict.fromkeys(_SPECS, _histogram(_CONFIGURED.submitting_buckets, n)),
        core_seconds=dict.fromkeys(ends, CounterValue(n * 61_001_000)),
        gpu_seconds=dict.fromkeys(ends, CounterValue(n * 61_001)),
        memory_seconds=dict.fromkeys(ends, CounterValue(n * 122_002_000)),
        reruns=dict.fromkeys(JOB_TYPES, CounterValue(n)),
        drift=dict.fromkeys(STATUSES, 0),
        last_audit_ms=_NOW_MS,
    )


def _histogram(bounds: tuple[float, ...], n: int) -> HistogramValue:
    size = len(bounds) + 1
    exemplar = Exemplar(10_000_000 + n, 12.5 + n / 7, _NOW_MS + n)
    return HistogramValue(bounds, tuple(n * i % 97 for i in range(size)), n * 1000 + 1, (exemplar,) * size)


def _samples(published: list[TargetSnapshot]) -> Iterator[tuple[Family, Sample]]:
    for family in TARGET_FAMILIES:
        for one in published:
            for sample in SOURCES[family].samples(one, SOURCES[family].extract(one)):
                yield family, sample


class _Peer:
    """The same families as objects of the client library, made beforehand: a scrape only renders them."""

    def __init__(self, published: list[TargetSnapshot]) -> None:
        self._metrics = {family: _metric(family) for family in TARGET_FAMILIES}
        for family, sample in _samples(published):
            labels = dict(zip(family.labels, sample.labels, strict=True))
            if sample.le is not None:
                labels["le"] = floatToGoString(sample.le)
            exemplar = sample.exemplar and ClientExemplar(
                {"job_id": str(sample.exemplar.job_id)}, sample.exemplar.value, sample.exemplar.at_ms / 1000
            )
            name = family.name + sample.suffix
            self._metrics[family].add_sample(name, labels, sample.value, exemplar=exemplar)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.values()


def _metric(family: Family) -> Metric:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    metric: Metric = kinds[family.type](family.name, family.help, labels=family.labels, unit=family.unit)
    return metric


async def _serve(published: list[TargetSnapshot], port: int, *, peer: bool) -> None:
    if peer:
        app = web.Application()
        registry = CollectorRegistry()
        registry.register(_Peer(published))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        app.router.add_get("/metrics", make_aiohttp_handler(registry))
    else:
        publisher = Publisher(Instruments(CollectorRegistry(), __version__))
        for one in published:
            publisher.publish(one)
        publisher.render_now()
        app = create_app(cast("Exporter", None), publisher)  # its other pages are not requested
    await Server(app, bind_all([ListenAddress("127.0.0.1", port)])).start()
    print(sum(1 for _ in _samples(published)), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("series", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("--peer", action="store_true")
    chosen = parser.parse_args()
    asyncio.run(_serve(snapshots(chosen.series), chosen.port, peer=chosen.peer))
