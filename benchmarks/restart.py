"""
A restart on a full ledger: the time to the first metrics, and whether it depends on the number of jobs.

Usage: python -m benchmarks.restart [--jobs N …] [--rounds N]

From the start of the process to a scrape that shows `octopus_jobs`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import programs
from benchmarks.measure import ratio, resident_mib, say, show
from benchmarks.programs import Exporter

_COLUMNS = ("jobs", "ledger MB", "wall s", "CPU s", "ratio", "RSS MiB", "ratio", "after a poll MiB", "ratio")


@dataclass(frozen=True, slots=True)
class Restart:
    """Units: seconds and MiB. `polled` is the resident memory after the first poll."""

    wall: float
    cpu: float
    resident: float
    polled: float


def measure(exporter: Exporter) -> Restart:
    with exporter.running() as client:
        client.wait_until_shown("octopus_jobs{")
        cost, resident = client.cost(), resident_mib(client.pid)
        client.wait_until_shown("octopus_poll_requests{")
        polled = resident_mib(client.pid)
        client.stop()
    return Restart(cost.wall, cost.cpu, resident, polled)


def _typical(jobs: int, rounds: int) -> tuple[Restart, float]:
    """Return the medians of some restarts, and the size of the ledger in MB."""
    with programs.page_server(jobs) as server, programs.exporter(server, interval_seconds=3600) as exporter:
        exporter.sync()
        found = [measure(exporter) for _ in range(rounds)]
        size = sum(file.stat().st_size for file in exporter.folder.glob("ledger.db*"))
    middle = (median(getattr(one, name) for one in found) for name in ("wall", "cpu", "resident", "polled"))
    return Restart(*middle), size / 1e6


def _row(jobs: int, found: tuple[Restart, float], least: Restart) -> tuple[str, ...]:
    restart, size = found
    return (
        *(f"{jobs:,}", f"{size:.1f}", f"{restart.wall:.2f}", f"{restart.cpu:.2f}"),
        *(ratio(restart.cpu, least.cpu), f"{restart.resident:.1f}", ratio(restart.resident, least.resident)),
        *(f"{restart.polled:.1f}", ratio(restart.polled, least.polled)),
    )


def main(jobs: Sequence[int], rounds: int) -> None:
    """Run the benchmark and print the table, with ratios to the smallest number of jobs."""
    found = {}
    for many in sorted(jobs):
        say(f"{many} jobs")
        found[many] = _typical(many, rounds)
    least = found[min(found)][0]
    show("Restart", _COLUMNS, [_row(many, found[many], least) for many in found])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, nargs="+", default=[2_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    main(chosen.jobs, chosen.rounds)
