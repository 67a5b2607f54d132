"""
A poll without changes while many jobs are in flight.

Usage: python -m benchmarks.in_flight [--in-flight N …] [--polls N] [--rounds N] [--tree FOLDER …]

`listing` is the requests of the first poll after a start, which lists everything in flight, and `staged kB`
what is written to files until its end. All else is of the polls after it. Above 50 pages in flight they ask
for totals, and list everything within five minutes.
Each FOLDER is another checkout whose exporter is measured too; they take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import programs
from benchmarks.measure import Cost, ratio, say, show
from benchmarks.programs import Server

_COLUMNS = (
    *("in flight", "exporter", "listing", "staged kB", "polls", "requests", "to first", "kB", "to first"),
    *("CPU ms", "to first", "written kB", "writes"),
)
_HERE = Path(__file__).parents[1]
_OTHER_JOBS = 2_000


@dataclass(slots=True)
class Program:
    """An exporter of a checkout: what a listing and a poll after it took in each round."""

    root: Path
    listings: list[int] = field(default_factory=list)
    staged: list[int] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)

    def measure(self, server: Server, polls: int) -> None:
        with programs.exporter(server, root=self.root) as exporter:
            exporter.sync()
            before, _ = server.served()
            with exporter.running() as client:
                client.wait_for_polls(1)
                self.listings.append(server.served()[0] - before)
                self.staged.append(client.cost().written)
                client.wait_for_polls(1)
                begun, done = client.cost(), client.polls()
                client.wait_for_polls(polls)
                cost, done = client.cost().since(begun), client.polls() - done
        self.costs.append(
            Cost(
                cpu=cost.cpu / done,
                requests=round(cost.requests / done),
                bytes=cost.bytes // done,
                written=cost.written // done,
                writes=round(cost.writes / done),
            )
        )

    @property
    def typical(self) -> tuple[float, float, float]:
        """The medians of the requests, kB and CPU milliseconds of a poll."""
        return (
            median(cost.requests for cost in self.costs),
            median(cost.bytes for cost in self.costs) / 1e3,
            median(cost.cpu for cost in self.costs) * 1e3,
        )


def main(in_flight: Sequence[int], polls: int, rounds: int, trees: Sequence[Path] = ()) -> None:
    """Run the benchmark and print the table; ratios to the exporter of this checkout."""
    rows = []
    for many in in_flight:
        chosen = [Program(root) for root in (_HERE, *trees)]
        with programs.page_server(_OTHER_JOBS + many, in_flight=many, spread=1) as server:
            for number in range(rounds):
                say(f"{many} in flight, round {number + 1} of {rounds}")
                for program in chosen:
                    program.measure(server, polls)
        for program in chosen:
            requests, size, cpu = program.typical
            base = chosen[0].typical
            rows.append(
                (
                    *(f"{many:,}", "this" if program.root == _HERE else program.root.name),
                    *(f"{median(program.listings):,.0f}", f"{median(program.staged) / 1e3:,.0f}"),
                    *(f"{polls}", f"{requests:,.0f}"),
                    *(ratio(requests, base[0]), f"{size:,.1f}", ratio(size, base[1])),
                    *(f"{cpu:,.1f}", ratio(cpu, base[2])),
                    f"{median(cost.written for cost in program.costs) / 1e3:,.1f}",
                    f"{median(cost.writes for cost in program.costs):,.0f}",
                )
            )
    show(
        "Quiet poll with many jobs in flight",
        _COLUMNS,
        rows,
        "Requests, kB, CPU and what is written to files per poll.",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--in-flight", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--polls", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tree", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    main(options.in_flight, options.polls, options.rounds, [tree.resolve() for tree in options.tree])
