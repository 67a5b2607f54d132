"""
A poll after many changes: its cost follows the number of changed jobs, not of all jobs.

Usage: python -m benchmarks.busy_poll [--jobs N] [--changes N] [--spread N …]

Between two polls, --changes jobs end and as many are created. With a spread of 1, the jobs that end were
created one after the other; with 2 they are every second job, with 3 every third. There are 20 % more jobs
in flight than end.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from benchmarks import programs
from benchmarks.measure import Cost, ratio, say, show
from benchmarks.programs import Client

_COLUMNS = (
    *("spread", "poll", "took s", "CPU ms", "requests", "to pages filled", "kB"),
    *("jobs created", "runs ended"),
)
_FIGURES = ("octopus_poll_duration_seconds", "octopus_jobs_created_total", "octopus_jobs_completed_total")
_PAGE_SIZE = 200


@dataclass(frozen=True, slots=True)
class Busy:
    """One poll. Units: `took` in seconds, as exported. `created` and `ended` are its counters after it."""

    name: str
    cost: Cost
    took: float
    created: float
    ended: float


def measure(jobs: int, changes: int, spread: int) -> Iterator[Busy]:
    """Return the polls before, with and after the changes."""
    with (
        programs.page_server(jobs, in_flight=changes * 6 // 5, spread=spread) as server,
        programs.exporter(server, interval_seconds=5) as exporter,
    ):
        exporter.sync()
        with exporter.running() as client:
            client.wait_until_ready()
            client.wait_for_polls(2)
            client.wait_until_released()
            for name, changing in (("quiet", 0), ("busy", changes), ("after it", 0)):
                server.change(changing, changing)
                yield _next_poll(name, client)


def _next_poll(name: str, client: Client) -> Busy:
    before = client.cost()
    client.wait_for_polls(1)
    cost = client.cost().since(before)
    client.wait_until_scraped()
    return Busy(name, cost, *(client.total(figure) for figure in _FIGURES))


def _row(spread: int, poll: Busy, pages: int) -> tuple[str, ...]:
    return (
        *(f"{spread}", poll.name, f"{poll.took:.2f}", f"{poll.cost.cpu * 1e3:.0f}"),
        *(f"{poll.cost.requests}", ratio(poll.cost.requests, pages), f"{poll.cost.bytes / 1e3:,.0f}"),
        *(f"{poll.created:.0f}", f"{poll.ended:.0f}"),
    )


def main(jobs: int, changes: int, spreads: Sequence[int]) -> None:
    """Run the benchmark and print the table."""
    pages = ceil(2 * changes / _PAGE_SIZE)
    rows = []
    for spread in spreads:
        say(f"{jobs} jobs, spread {spread}")
        rows += [_row(spread, poll, pages) for poll in measure(jobs, changes, spread)]
    show(
        f"Busy poll: {changes:,} endings and {changes:,} arrivals among {jobs:,} jobs",
        _COLUMNS,
        rows,
        f"The changed rows fill {pages} pages.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--spread", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    main(chosen.jobs, chosen.changes, chosen.spread)
