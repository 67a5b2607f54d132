"""
A poll without changes: its cost does not depend on the number of listed jobs, and what it costs by the number
of jobs in flight.

Usage: python -m benchmarks.quiet_poll [--jobs N …] [--in-flight N …] [--seconds N] [--naive-polls N]

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
    *("RSS MiB", "ratio", "peak MiB"),
)
_IN_FLIGHT_COLUMNS = (
    *("in flight", "polls", "requests", "kB", "CPU ms", "written kB", "writes", "last poll s"),
    *("RSS MiB", "peak MiB"),
)
_WARM_POLLS = 3


@dataclass(frozen=True, slots=True)
class Quiet:
    """The total cost of some polls, the memory after them, and the seconds that the last one took."""

    polls: int
    cost: Cost
    resident: float
    peak: float
    last: float = 0.0


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
    last = client.total("octopus_poll_duration_seconds")
    return Quiet(client.polls() - polls, cost, resident_mib(client.pid), peak_mib(client.pid), last)


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
        *(f"{quiet.resident:.1f}", ratio(quiet.resident, least.resident), f"{quiet.peak:.1f}"),
    )


def _in_flight_row(in_flight: int, quiet: Quiet) -> tuple[str, ...]:
    cost, polls = quiet.cost, quiet.polls
    return (
        *(f"{in_flight:,}", f"{polls}", f"{cost.requests / polls:.1f}", f"{cost.bytes / polls / 1e3:,.1f}"),
        *(f"{cost.cpu / polls * 1e3:,.1f}", f"{cost.written / polls / 1e3:,.1f}"),
        *(f"{cost.writes / polls:,.1f}", f"{quiet.last:.2f}"),
        *(f"{quiet.resident:.1f}", f"{quiet.peak:.1f}"),
    )


def by_in_flight(in_flight: Sequence[int], seconds: float) -> None:
    """Run the exporter with more and more jobs in flight and print the table: cost per poll."""
    rows = []
    for many in sorted(in_flight):
        say(f"{many} jobs in flight")
        with programs.page_server(2 * many, in_flight=many, spread=1) as server:
            rows.append(_in_flight_row(many, measure_exporter(server, seconds)))
    note = "Per poll. Written: to files, the ledger and temporary ones."
    show("Quiet poll by jobs in flight", _IN_FLIGHT_COLUMNS, rows, note)


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
        "Requests, kB and CPU per poll; ratios to the smallest number of jobs.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, nargs="+", default=[2_000, 200_000, 1_000_000])
    parser.add_argument("--in-flight", type=int, nargs="*", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--naive-polls", type=int, default=2)
    chosen = parser.parse_args()
    main(chosen.jobs, chosen.seconds, chosen.naive_polls)
    by_in_flight(chosen.in_flight, chosen.seconds)
