"""
A first sync: the time and CPU of the exporter, which stores and publishes all jobs, against the floor.

Usage: python -m benchmarks.cold_sync [--jobs N …] [--latency SECONDS …] [--rounds N]

The programs run in turn against one server. Time and CPU count from the start of the process to its end (the
floor) or to the first publication (the exporter and the naive one). `reading` excludes the start of the
process.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from benchmarks import programs
from benchmarks.measure import Cost, peak_mib, ratio, say, show
from benchmarks.programs import Server

_COLUMNS = (
    *("jobs", "latency s", "program", "wall s", "to floor", "reading s", "to floor"),
    *("CPU s", "to floor", "server CPU s", "requests", "MB", "peak MiB"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """Units: `reading` in seconds, by the program's own clock."""

    cost: Cost
    reading: float
    peak: float


def measure_floor(server: Server) -> Run:
    before = server.served()
    with programs.floor(server) as (client, finished):
        begun = _begun(client.cost(), before)
        reading = finished()
        return Run(client.cost().since(begun), reading, peak_mib(client.pid))


def measure_exporter(server: Server) -> Run:
    before = server.served()
    with programs.exporter(server, interval_seconds=3600) as exporter, exporter.running() as client:
        begun = _begun(client.cost(), before)
        client.wait_until_ready()
        cost, peak = client.cost().since(begun), peak_mib(client.pid)
        client.wait_until_shown("octopus_poll_duration_seconds{")
        return Run(cost, client.total("octopus_poll_duration_seconds"), peak)


def measure_naive(server: Server) -> Run:
    before = server.served()
    with programs.naive(server) as client:
        begun = _begun(client.cost(), before)
        client.wait_until_shown("octopus_jobs{")
        cost = client.cost().since(begun)
        return Run(cost, cost.wall, peak_mib(client.pid))


def _begun(now: Cost, served: tuple[int, int]) -> Cost:
    """Return the cost at the start of a process: only the server has spent anything by then."""
    return Cost(0, 0, now.server_cpu, *served)


def _typical(runs: Sequence[Run]) -> Run:
    """Return the run with the median wall time."""
    middle = median(run.cost.wall for run in runs)
    return min(runs, key=lambda run: abs(run.cost.wall - middle))


def _measured(jobs: int, latency: float, rounds: int, with_naive: bool) -> Iterator[tuple[str, Run]]:
    floor, exporter = [], []
    with programs.page_server(jobs) as server:
        server.delay(latency)
        for number in range(rounds):
            say(f"{jobs} jobs, {latency:g} s of latency, round {number + 1} of {rounds}")
            floor.append(measure_floor(server))
            exporter.append(measure_exporter(server))
        yield "floor", _typical(floor)
        yield "exporter", _typical(exporter)
        if with_naive:
            yield "naive", measure_naive(server)


def _row(jobs: int, latency: float, name: str, run: Run, floor: Run) -> tuple[str, ...]:
    cost = run.cost
    return (
        *(f"{jobs:,}", f"{latency:g}", name),
        *(f"{cost.wall:.2f}", ratio(cost.wall, floor.cost.wall)),
        *(f"{run.reading:.2f}", ratio(run.reading, floor.reading)),
        *(f"{cost.cpu:.2f}", ratio(cost.cpu, floor.cost.cpu), f"{cost.server_cpu:.2f}"),
        *(f"{cost.requests:,}", f"{cost.bytes / 1e6:.1f}", f"{run.peak:.0f}"),
    )


def main(jobs: Sequence[int], latencies: Sequence[float], rounds: int) -> None:
    """Run the benchmark and print the table. The naive one runs with the smallest number of jobs."""
    rows = []
    for many, latency in product(jobs, latencies):
        runs = dict(_measured(many, latency, rounds, many == min(jobs)))
        rows += [_row(many, latency, name, run, runs["floor"]) for name, run in runs.items()]
    show("Cold sync", _COLUMNS, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    main(chosen.jobs, chosen.latency, chosen.rounds)
