"""
Many targets in one process: whether each is polled on time, and the lag of the event loop.

Usage: python -m benchmarks.many_targets [--targets N] [--jobs N] [--interval SECONDS] [--seconds N]

In every target, one job ends and one is created in each interval, so that every poll records and publishes
something. /metrics is scraped every 5 seconds. The measurement begins after the first sync of all targets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.samples import Sample

from benchmarks import programs
from benchmarks.measure import Cost, resident_mib, show
from benchmarks.programs import Client

_COLUMNS = (
    *("targets", "seconds", "polls", "due", "failed", "skipped", "slowest poll s"),
    *("loop lag p99 ms", "p50 ms", "over 20 ms", "CPU share", "server's", "RSS MiB"),
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


def _row(
    targets: int, cost: Cost, before: Scrape, after: Scrape, due: float, slowest: float, resident: float
) -> tuple[str, ...]:
    return (
        *(f"{targets}", f"{cost.wall:.0f}", f"{after.polls - before.polls:.0f}", f"{due:.0f}"),
        *(f"{after.failed:.0f}", f"{after.skipped - before.skipped:.0f}", f"{slowest:.2f}"),
        f"{lag_quantile(before, after, 0.99) * 1e3:.1f}",
        f"{lag_quantile(before, after, 0.5) * 1e3:.1f}",
        f"{lag_over(before, after, 0.02):.2%}",
        *(f"{cost.cpu / cost.wall:.0%}", f"{cost.server_cpu / cost.wall:.0%}", f"{resident:.0f}"),
    )


def main(targets: int, jobs: int, interval: float, seconds: float) -> None:
    """Run the benchmark and print the table."""
    with (
        programs.page_server(jobs, in_flight=20) as server,
        programs.exporter(server, interval_seconds=interval, projects=targets) as exporter,
        exporter.running() as client,
    ):
        client.wait_until_ready()
        time.sleep(2 * interval)
        before, begun = Scrape.of(client.scrape(*_NAMES)), client.cost()
        slowest = _watch(client, interval, seconds)
        cost, after = client.cost().since(begun), Scrape.of(client.scrape(*_NAMES))
        due = targets * cost.wall / interval
        row = _row(targets, cost, before, after, due, slowest, resident_mib(client.pid))
    note = f"Before that, during the first sync: {before.skipped:.0f} polls skipped."
    show(f"Many targets of {jobs:,} jobs, every {interval:g} s", _COLUMNS, [row], note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--interval", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=120)
    chosen = parser.parse_args()
    main(chosen.targets, chosen.jobs, chosen.interval, chosen.seconds)
