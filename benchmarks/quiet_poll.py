"""
A poll without changes: its cost does not depend on the number of listed jobs.

Usage: python -m benchmarks.quiet_poll [--jobs N …] [--seconds N] [--naive-polls N]

The exporter polls every second, in a process that was started on a full ledger: so the memory of the first
sync does not count. The cost between the polls is included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import programs
from benchmarks.measure import Cost, peak_mib, ratio, resident_mib, say, show
from benchmarks.programs import Client, Server

_COLUMNS = (
    *("jobs", "program", "polls", "requests", "ratio", "kB", "ratio", "CPU ms", "ratio"),
    *("written kB", "writes", "RSS MiB", "ratio", "peak MiB"),
)
_WARM_POLLS = 3


@dataclass(frozen=True, slots=True)
class Quiet:
    """The total cost of some polls, and the memory after them."""

    polls: int
    cost: Cost
    resident: float
    peak: float


def measure_exporter(server: Server, seconds: float) -> Quiet:
    with programs.exporter(server) as exporter:
        exporter.sync()
        with exporter.running() as client:
            client.wait_until_ready()
            client.wait_for_polls(_WARM_POLLS)
            return _window(client, seconds)


def _window(client: Client, seconds: float) -> Quiet:
    """Measure from the end of one poll to the end of a later one."""
    client.wait_for_polls(1)
    polls, before = client.polls(), client.cost()
    time.sleep(seconds)
    client.wait_for_polls(1)
    cost = client.cost().since(before)
    return Quiet(client.polls() - polls, cost, resident_mib(client.pid), peak_mib(client.pid))


def measure_naive(server: Server, polls: int) -> Quiet:
    with programs.naive(server) as client:
        _wait_for_polls(client, 1)
        before = client.cost()
        _wait_for_polls(client, 1 + polls)
        cost = client.cost().since(before)
        return Quiet(polls, cost, resident_mib(client.pid), peak_mib(client.pid))


def _wait_for_polls(client: Client, polls: int) -> None:
    client.wait_until_shown("octopus_polls_total")
    while client.total("octopus_polls_total") < polls:
        time.sleep(0.05)


def _row(jobs: int, name: str, quiet: Quiet, least: Quiet) -> tuple[str, ...]:
    def of(it: Quiet) -> tuple[float, float, float]:
        return it.cost.requests / it.polls, it.cost.bytes / it.polls / 1e3, it.cost.cpu / it.polls * 1e3

    (requests, size, cpu), base = of(quiet), of(least)
    return (
        *(f"{jobs:,}", name, f"{quiet.polls}"),
        *(f"{requests:.1f}", ratio(requests, base[0]), f"{size:,.1f}", ratio(size, base[1])),
        *(f"{cpu:,.1f}", ratio(cpu, base[2])),
        *(f"{quiet.cost.written / quiet.polls / 1e3:,.1f}", f"{quiet.cost.writes / quiet.polls:.1f}"),
        *(f"{quiet.resident:.1f}", ratio(quiet.resident, least.resident), f"{quiet.peak:.1f}"),
    )


def main(jobs: Sequence[int], seconds: float, naive_polls: int) -> None:
    """Run the benchmark and print the table: cost per poll, ratio to the fewest jobs."""
    found: dict[str, dict[int, Quiet]] = {"exporter": {}, "naive": {}}
    for many in sorted(jobs):
        say(f"{many} jobs")
        with programs.page_server(many) as server:
            found["exporter"][many] = measure_exporter(server, seconds)
            found["naive"][many] = measure_naive(server, naive_polls)
    show(
        "Quiet poll",
        _COLUMNS,
        [_row(many, name, by[many], by[min(by)]) for name, by in found.items() for many in by],
        "Requests, kB, CPU and what is written to files per poll; ratios to the smallest number of jobs.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, nargs="+", default=[2_000, 200_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--naive-polls", type=int, default=2)
    chosen = parser.parse_args()
    main(chosen.jobs, chosen.seconds, chosen.naive_polls)
