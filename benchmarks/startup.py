"""
The start: the CPU time of `--version`, `--help`, and `run` until it answers, and the memory of one target.

Usage: python -m benchmarks.startup [--rounds N] [--polls N] [--tree FOLDER …]

Floors in the same run: an interpreter that does nothing, and one that imports aiohttp. Each FOLDER is another
checkout whose exporter is measured too; all take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import programs
from benchmarks.measure import ratio, resident_mib, show
from benchmarks.programs import Server

_COLUMNS = ("program", "CPU ms", "to python", "to aiohttp", "RSS MiB")
_HERE = Path(__file__).parents[1]
_JOBS = 2_000


@dataclass(frozen=True, slots=True)
class Started:
    """What one round found. Units: CPU seconds; MiB of resident memory."""

    cpu: float
    resident: float | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """Something that is started once a round."""

    name: str
    start: Callable[[], Started]
    found: list[Started] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        return median(one.cpu for one in self.found)

    @property
    def resident(self) -> str:
        sizes = [one.resident for one in self.found if one.resident is not None]
        return f"{median(sizes):.1f}" if sizes else ""


def _until_healthy(server: Server, root: Path, polls: int) -> Started:
    """Run an exporter with a new ledger: its CPU until it answers, its memory after some polls."""
    with programs.exporter(server, root=root) as exporter, exporter.running() as client:
        client.wait_until_healthy()
        cpu = client.cost().cpu
        client.wait_until_ready()
        client.wait_for_polls(polls)
        resident = resident_mib(client.pid)
        client.stop()
    return Started(cpu, resident)


def _programs(server: Server, trees: Sequence[Path], polls: int) -> list[Program]:
    def python(name: str, *arguments: str, root: Path = _HERE) -> Program:
        return Program(name, lambda: Started(programs.cpu_of(*arguments, root=root)))

    def run(name: str, root: Path) -> Program:
        return Program(name, lambda: _until_healthy(server, root, polls))

    chosen = [python("python", "-c", "pass"), python("import aiohttp", "-c", "import aiohttp")]
    for tree in (_HERE, *trees):
        where = "" if tree == _HERE else f" ({tree.name})"
        chosen += [
            python(f"--version{where}", "-m", "exporter", "--version", root=tree),
            python(f"--help{where}", "-m", "exporter", "--help", root=tree),
            run(f"run, to /-/healthy{where}", tree),
        ]
    return chosen


def main(rounds: int, polls: int, trees: Sequence[Path] = ()) -> None:
    """Run the benchmark and print the table: medians, with ratios to both floors."""
    with programs.page_server(_JOBS) as server:
        chosen = _programs(server, trees, polls)
        for program in chosen:
            program.start()  # compiles the modules of another checkout
        for _ in range(rounds):
            for program in chosen:
                program.found.append(program.start())
    bare, aiohttp = chosen[0].cpu, chosen[1].cpu
    rows = [
        (one.name, f"{one.cpu * 1000:.0f}", ratio(one.cpu, bare), ratio(one.cpu, aiohttp), one.resident)
        for one in chosen
    ]
    show("Start", _COLUMNS, rows, f"RSS: one target of {_JOBS:,} jobs, after {polls} quiet polls")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--polls", type=int, default=10)
    parser.add_argument("--tree", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    main(options.rounds, options.polls, [tree.resolve() for tree in options.tree])
