"""
The live target, and what each target shows at any time, as a function of that time.

Targets are of a few kinds with different numbers of runs; all targets of a kind have the same values. Their
counters grow evenly, by day faster than at night, and nothing unusual happens.

Usage: python -m benchmarks.rule_cost.target TARGETS PORT. Serves the exporter's exposition of all targets.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise
from math import floor, pi, sin
from typing import cast
from zlib import crc32

from prometheus_client import CollectorRegistry

from benchmarks.published import numbered_target
from exporter import __version__
from exporter.config import ListenAddress
from exporter.config.settings import MetricsSettings
from exporter.exposition import families
from exporter.exposition.families import TARGET_FAMILIES
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.exposition.samples import SOURCES
from exporter.model import (
    IN_FLIGHT_STATUSES,
    JOB_TYPES,
    STATUSES,
    TERMINAL_STATUSES,
    CounterValue,
    HistogramValue,
    PollStatus,
    TargetSnapshot,
    Totals,
)
from exporter.web.app import Exporter, create_app
from exporter.web.server import Server, bind_all

RUNS_A_DAY = (60, 600, 6_000)
"""For each kind of target."""

SCRAPE_LABELS = {"job": "octopus", "instance": "octopus-exporter"}
POLL_SECONDS = 30
REQUESTS_A_POLL = 3
_DAY = 86_400.0
_BEGAN_DAYS = 20_000
_SHARES = {
    "FINISHED": 0.9,
    "STOPPED": 0.04,
    "RUN_FAILED": 0.04,
    "SUBMIT_FAILED": 0.015,
    "UPLOAD_FAILED": 0.005,
}
_CODES = {"RUN_FAILED": ("", "3001", "3302"), "SUBMIT_FAILED": ("", "3407"), "UPLOAD_FAILED": ("",)}
_FILTERS = ("statuses", "job_types", "start_time", "id", "workspace", "totals")
# One for each job type.
_SPECS = {
    job_type: f"P100_1Gpu_{2**place}Core_{2 ** (place + 2)}GiB" for place, job_type in enumerate(JOB_TYPES)
}
_RUN_MS = 600_000
_IN_STATUS_SECONDS = {"QUEUING": 120, "LAUNCHING": 60, "RUNNING": 3_000, "UPLOADING": 300}
_BOUNDS = MetricsSettings()

Labels = tuple[tuple[str, str], ...]


def project(number: int) -> str:
    return f"project-{number:03d}"


def snapshots(targets: int, at: float) -> Iterator[TargetSnapshot]:
    """Return the snapshots of all targets at a time (Unix seconds)."""
    kinds = [_snapshot(kind, at) for kind in range(len(RUNS_A_DAY))]
    for number in range(targets):
        shown = kinds[number % len(kinds)]
        target = replace(shown.target, project=project(number), project_id=f"{number:032x}")
        yield replace(shown, target=target)


def samples(names: set[str], kind: int, at: float) -> Iterator[tuple[str, Labels, float]]:
    """Return the series of these names of a target of a kind at a time: name, labels and value."""
    shown = _snapshot(kind, at, histograms=any("_duration_seconds_" in name for name in names))
    for family in TARGET_FAMILIES:
        if not any(name.startswith(family.name) for name in names):
            continue
        for sample in SOURCES[family].samples(shown, SOURCES[family].extract(shown)):
            if (name := family.name + sample.suffix) in names:
                pairs = [*zip(family.labels, sample.labels, strict=True)]
                if sample.le is not None:
                    pairs.append(("le", f"{sample.le:g}".replace("inf", "+Inf")))
                yield name, tuple(pairs), sample.value
    if families.API_REQUESTS.name in names:
        labels = (("project", shown.target.project), ("code", "200"))
        yield families.API_REQUESTS.name, labels, REQUESTS_A_POLL * _polls(at)


def _snapshot(kind: int, at: float, *, histograms: bool = True) -> TargetSnapshot:
    target = numbered_target(kind)
    polled = floor(at / POLL_SECONDS) * POLL_SECONDS
    polls = _polls(at)
    # Real polls do not take the same time: without this variation, values computed from it are constant.
    last_ms = polled * 1000 + polls * 7919 % 997
    poll = PollStatus(True, 0.3 + polls % 17 / 100, 3, last_ms, last_ms, polls=polls)
    return TargetSnapshot(target, _totals(RUNS_A_DAY[kind], polled, histograms), poll)


def _polls(at: float) -> int:
    return int((at - _BEGAN_DAYS * _DAY) / POLL_SECONDS)


def _totals(runs_a_day: float, at: float, histograms: bool) -> Totals:
    ended = {
        (job_type, status): _ended(runs_a_day * share * _share(job_type), at, f"{job_type}{status}")
        for job_type in JOB_TYPES
        for status, share in _SHARES.items()
    }
    in_flight = {
        (job_type, status): round(
            runs_a_day * _share(job_type) * seconds / _DAY * (1 + 0.8 * _daily_variation(at))
        )
        for job_type in JOB_TYPES
        for status, seconds in _IN_STATUS_SECONDS.items()
    }
    oldest = {key: int(at - _IN_STATUS_SECONDS[key[1]]) * 1000 for key, jobs in in_flight.items() if jobs}
    runs = {job_type: sum(ended[job_type, status] for status in TERMINAL_STATUSES) for job_type in JOB_TYPES}
    return Totals(
        jobs={
            (job_type, status): in_flight.get((job_type, status), 0) or ended.get((job_type, status), 0) // 20
            for job_type in JOB_TYPES
            for status in STATUSES
        },
        oldest_created_ms=oldest,
        oldest_started_ms={key: ms for key, ms in oldest.items() if key[1] in IN_FLIGHT_STATUSES[2:]},
        created={job_type: CounterValue(runs[job_type]) for job_type in JOB_TYPES},
        completed={key: CounterValue(value) for key, value in ended.items()},
        failures={
            (job_type, status, code): CounterValue((ended[job_type, status] + place) // len(codes))
            for job_type in JOB_TYPES
            for status, codes in _CODES.items()
            for place, code in enumerate(codes)
        },
        submitting={
            job_type: _histogram(_BOUNDS.submitting_buckets, count)
            for job_type, count in runs.items()
            if histograms
        },
        running={
            key: _histogram(_BOUNDS.running_buckets, count) for key, count in ended.items() if histograms
        },
        resource_jobs={(_SPECS[kind], status): jobs for (kind, status), jobs in in_flight.items()},
        resource_submitting={
            _SPECS[job_type]: _histogram(_BOUNDS.submitting_buckets, count)
            for job_type, count in runs.items()
            if histograms
        },
        core_seconds={key: CounterValue(runs * 8_000 * _RUN_MS) for key, runs in ended.items()},
        gpu_seconds={key: CounterValue(runs * 1_000 * _RUN_MS) for key, runs in ended.items()},
        memory_seconds={key: CounterValue(runs * 32_000 * _RUN_MS) for key, runs in ended.items()},
        reruns={job_type: CounterValue(count // 20) for job_type, count in runs.items()},
        drift=dict.fromkeys(STATUSES, 0),
        last_audit_ms=floor(at / 600) * 600_000,
        filters=dict.fromkeys(_FILTERS, True),
    )


def _ended(a_day: float, at: float, series: str) -> int:
    """Return the number of ended runs: even, but for the daily variation."""
    days = at / _DAY - _BEGAN_DAYS
    return floor(a_day * (days - 0.8 / (2 * pi) * sin(2 * pi * days)) + crc32(series.encode()) % 100 / 100)


def _daily_variation(at: float) -> float:
    return -sin(2 * pi * at / _DAY)


@cache
def _share(job_type: str) -> float:
    """Return a job type's share of the runs: some have many, some few."""
    weights = {name: 1 / (place + 1) for place, name in enumerate(JOB_TYPES)}
    return weights[job_type] / sum(weights.values())


def _histogram(bounds: tuple[float, ...], count: int) -> HistogramValue:
    """Distribute a count over the buckets, most in the middle."""
    size = len(bounds) + 1
    weights = [min(place + 1, size - place) for place in range(size)]
    shares = list(accumulate(weights))
    below = [0, *(count * share // shares[-1] for share in shares)]
    counts = tuple(after - before for before, after in pairwise(below))
    return HistogramValue(bounds, counts, count * _RUN_MS, (None,) * size)


async def run(targets: int, port: int) -> None:
    instruments = Instruments(CollectorRegistry(), __version__)
    instruments.show_expiries(lambda: {"default": time.time() + 86_400})
    instruments.reload_result(ok=True, timestamp_seconds=time.time() - 86_400)
    publisher = Publisher(instruments)
    for number in range(targets):
        instruments.add_project(project(number))
        instruments.clock_skew(project(number), 0.1)
        instruments.request(project(number), "429", 0.1)
    rendering = asyncio.create_task(publisher.run())
    app = create_app(cast("Exporter", None), publisher)
    await Server(app, bind_all([ListenAddress("127.0.0.1", port)])).start()
    while not rendering.done():
        now = time.time()
        for snapshot in snapshots(targets, now):
            publisher.publish(snapshot)
            for _ in range(REQUESTS_A_POLL):
                instruments.request(snapshot.target.project, "200", 0.1)
        await asyncio.sleep(POLL_SECONDS - now % POLL_SECONDS)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), int(sys.argv[2])))
