"""
One to thousands of targets in one process: start and end, whether polls are on time, the event loop's lag.

Usage: python -m benchmarks.many_targets [--targets N …] [--jobs N] [--interval SECONDS] [--seconds N]
           [--tree PATH]

In every target, one job ends and one is created in each interval, so that every poll records and publishes
something. /metrics is scraped every 5 seconds. The measurement begins an interval after the first sync of all
targets. Then the exporter is stopped and started again, until each target has been polled once. With `--tree`
the exporter of another checkout runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.samples import Sample

from benchmarks import programs
from benchmarks.measure import resident_mib, say, show
from benchmarks.programs import Client

_COLUMNS = (
    *("targets", "polls", "due", "failed", "skipped", "slowest poll s"),
    *(
        "loop lag p99 ms",
        "p50 ms",
        "over 20 ms",
        "CPU share",
        "ms per poll",
        "server's",
        "RSS MiB",
        "text MB",
    ),
)
_START_COLUMNS = (
    *("targets", "first sync s", "CPU s", "end s", "restart: ready s", "CPU s", "all polled s", "CPU s"),
)
_NAMES = ("octopus_poll", "octopus_exporter_event_loop_lag")
_LAG = "octopus_exporter_event_loop_lag_seconds_bucket"
_SCRAPE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Scrape:
    """The values of one scrape. `lag` has the cumulative buckets by bound in seconds."""

    polls: float
    failed: float
    skipped: float
    slowest: float
    lag: dict[float, float]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Scrape:
        def values(name: str) -> list[float]:
            return [sample.value for sample in samples if sample.name == name]

        return cls(
            sum(values("octopus_polls_total")),
            sum(values("octopus_poll_failures_total")),
            sum(values("octopus_polls_skipped_total")),
            max(values("octopus_poll_duration_seconds"), default=0.0),
            {float(sample.labels["le"]): sample.value for sample in samples if sample.name == _LAG},
        )


def lag_quantile(before: Scrape, after: Scrape, share: float) -> float:
    """Return a quantile of the event loop's lag in seconds, as histogram_quantile does."""
    counts = {bound: after.lag[bound] - before.lag[bound] for bound in after.lag}
    wanted = share * counts[float("inf")]
    low = seen = 0.0
    for bound, count in sorted(counts.items()):
        if count >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - seen) / (count - seen)
        low, seen = bound, count
    return low


def lag_over(before: Scrape, after: Scrape, bound: float) -> float:
    """Return the share of lags that exceed the bound of a bucket."""
    total = after.lag[float("inf")] - before.lag[float("inf")]
    return 1 - (after.lag[bound] - before.lag[bound]) / total


def _watch(client: Client, interval: float, seconds: float) -> float:
    """Change jobs and scrape, for so many seconds. Returns the duration of the longest poll."""
    ends = time.monotonic() + seconds
    scraping = changing = time.monotonic()
    slowest = 0.0
    while (now := time.monotonic()) < ends:
        if now >= changing:
            client.server.change(1, 1)
            changing += interval
        if now >= scraping:
            slowest = max(slowest, Scrape.of(client.scrape(*_NAMES)).slowest)
            scraping += _SCRAPE_SECONDS
        time.sleep(0.1)
    return slowest


def _row(targets: int, client: Client, interval: float, seconds: float) -> tuple[str, ...]:
    """Measure a running exporter for so many seconds."""
    before, begun = Scrape.of(client.scrape(*_NAMES)), client.cost()
    slowest = _watch(client, interval, seconds)
    cost, after = client.cost().since(begun), Scrape.of(client.scrape(*_NAMES))
    polls = after.polls - before.polls
    return (
        *(f"{targets:,}", f"{polls:.0f}", f"{targets * cost.wall / interval:.0f}"),
        *(f"{after.failed:.0f}", f"{after.skipped - before.skipped:.0f}", f"{slowest:.2f}"),
        f"{lag_quantile(before, after, 0.99) * 1e3:.1f}",
        f"{lag_quantile(before, after, 0.5) * 1e3:.1f}",
        f"{lag_over(before, after, 0.02):.2%}",
        *(
            f"{cost.cpu / cost.wall:.0%}",
            f"{cost.cpu / polls * 1e3:.1f}",
            f"{cost.server_cpu / cost.wall:.0%}",
        ),
        *(f"{resident_mib(client.pid):.0f}", f"{client.exposed_bytes() / 1e6:.1f}"),
    )


def _measure(
    exporter: programs.Exporter, interval: float, seconds: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the rows of both tables."""
    targets = exporter.projects
    with exporter.running() as client:
        client.wait_until_ready(look_seconds=0.2)
        first = client.cost()
        time.sleep(interval)
        row = _row(targets, client, interval, seconds)
        began = time.monotonic()
        client.stop()
        end_seconds = time.monotonic() - began
    with exporter.running() as client:
        client.wait_until_ready(look_seconds=0.2)
        ready = client.cost()
        client.wait_until_all_polled(targets)
        polled = client.cost()
    start = (
        *(f"{targets:,}", f"{first.wall:.1f}", f"{first.cpu:.1f}", f"{end_seconds:.1f}"),
        *(f"{ready.wall:.1f}", f"{ready.cpu:.1f}", f"{polled.wall:.1f}", f"{polled.cpu:.1f}"),
    )
    return row, start


def main(targets: list[int], jobs: int, interval: float, seconds: float, root: Path | None = None) -> None:
    """Run the benchmark and print the tables."""
    rows, other = [], {} if root is None else {"root": root}
    for number in targets:
        say(f"{number:,} targets")
        with (
            programs.page_server(jobs, in_flight=20) as server,
            programs.exporter(server, interval_seconds=interval, projects=number, **other) as exporter,
        ):
            rows.append(_measure(exporter, interval, seconds))
    show(f"Many targets of {jobs:,} jobs, every {interval:g} s", _COLUMNS, [row for row, _ in rows])
    show("Their start and end", _START_COLUMNS, [start for _, start in rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 50, 200, 1_000, 2_000])
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--interval", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tree", type=Path)
    chosen = parser.parse_args()
    main(chosen.targets, chosen.jobs, chosen.interval, chosen.seconds, chosen.tree)
