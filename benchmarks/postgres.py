"""
A PostgreSQL ledger beside SQLite: a first sync, quiet polls, and many targets over two replicas.

Usage: python -m benchmarks.postgres [--jobs N …] [--listed N …] [--targets N …] [--interval SECONDS]
           [--seconds N] [--rounds N]

Debian's PostgreSQL runs on the same machine, with its own defaults but for 128 MB of shared buffers and for
pg_stat_statements, which counts the statements. Its CPU is that of all its processes. The bytes are those
between it and the exporters, both ways, without the packets' heads.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import programs
from benchmarks.many_targets import Scrape
from benchmarks.measure import cpu_seconds, peak_mib, resident_mib, say, show
from benchmarks.programs import Client, Server
from tests.postgres import PostgresDatabase, PostgresServer, postgres_server

_SYNC_COLUMNS = (
    *("jobs", "ledger", "wall s", "CPU s", "database's", "both", "statements", "MB", "peak MiB"),
)
_QUIET_COLUMNS = (*("listed", "ledger", "polls", "CPU ms", "database's", "statements", "kB", "RSS MiB"),)
_MANY_COLUMNS = (
    *("targets", "ledger", "polls", "due", "failed", "skipped", "slowest s", "CPU share", "database's"),
    *("ms per poll", "database's", "statements", "kB", "RSS MiB"),
)
_NAMES = ("octopus_poll",)
_SCRAPE_SECONDS = 5.0
_TICK_SECONDS = 0.01  # of the times in /proc/PID/stat
# Where in /proc/PID/stat, after the name: user and system time, and those of ended children.
_TIMES = slice(11, 15)


@dataclass(frozen=True, slots=True)
class Spent:
    """What processes have spent since their start: the exporters, and the database where there is one."""

    wall: float = 0.0
    cpu: float = 0.0
    database_cpu: float = 0.0
    statements: float = 0.0
    bytes: float = 0.0

    def since(self, before: Spent) -> Spent:
        return Spent(
            self.wall - before.wall,
            self.cpu - before.cpu,
            self.database_cpu - before.database_cpu,
            self.statements - before.statements,
            self.bytes - before.bytes,
        )


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where exporters keep their ledger. Shape: `database` is None for SQLite."""

    database: PostgresDatabase | None = None

    @property
    def name(self) -> str:
        return "SQLite" if self.database is None else "PostgreSQL"

    @property
    def url(self) -> str:
        return "" if self.database is None else self.database.url

    def spent(self, *clients: Client) -> Spent:
        wall, cpu = time.monotonic(), sum(cpu_seconds(client.pid) for client in clients)
        if self.database is None:
            return Spent(wall, cpu)
        server = self.database.server
        statements = self.database.sql(
            "SELECT sum(calls) FROM pg_stat_statements JOIN pg_roles ON oid = userid"
            " WHERE rolname = 'octopus'"
        )
        return Spent(wall, cpu, _database_cpu(server), float(statements or 0), _bytes(server.port))


def _database_cpu(server: PostgresServer) -> float:
    """Return the CPU time of all processes of a server, also of those that have ended."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    ticks = sum(_ticks(server.pid))
    for pid in map(int, children):
        try:
            ticks += sum(_ticks(pid)[:2])
        except OSError:  # it has ended
            continue
    return ticks * _TICK_SECONDS


def _ticks(pid: int) -> list[int]:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(text) for text in after_name[_TIMES]]


def _bytes(port: int) -> int:
    """Return the bytes that went over the open connections to a port, both ways."""
    command = ["ss", "-tinH", "state", "established", "dport", "=", f":{port}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(map(int, re.findall(r"bytes_(?:sent|received):(\d+)", shown)))


@contextmanager
def ledgers(server: PostgresServer) -> Iterator[tuple[Ledger, Ledger]]:
    """Give an empty ledger of each back end."""
    database = PostgresDatabase(server)
    database.sql("CREATE EXTENSION pg_stat_statements; GRANT pg_read_all_stats TO octopus")
    try:
        yield Ledger(), Ledger(database)
    finally:
        database.drop()


def measure_sync(server: Server, ledger: Ledger) -> tuple[Spent, float]:
    """Run a first sync up to its publication; give the peak of the memory too."""
    before = ledger.spent()
    with (
        programs.exporter(server, interval_seconds=3600, ledger=ledger.url) as exporter,
        exporter.running() as client,
    ):
        began = Spent(client.began, 0.0, before.database_cpu, before.statements, before.bytes)
        client.wait_until_ready()
        return ledger.spent(client).since(began), peak_mib(client.pid)


def _sync_row(jobs: int, ledger: Ledger, runs: Sequence[tuple[Spent, float]]) -> tuple[str, ...]:
    middle = median(spent.wall for spent, _ in runs)
    spent, peak = min(runs, key=lambda run: abs(run[0].wall - middle))
    return (
        *(f"{jobs:,}", ledger.name, f"{spent.wall:.2f}", f"{spent.cpu:.2f}", f"{spent.database_cpu:.2f}"),
        *(f"{spent.cpu + spent.database_cpu:.2f}", f"{spent.statements:,.0f}", f"{spent.bytes / 1e6:.1f}"),
        f"{peak:.0f}",
    )


def measure_quiet(server: Server, ledger: Ledger, jobs: int, seconds: float) -> tuple[str, ...]:
    """Measure polls without changes, every second, in a process that was started on a full ledger."""
    with programs.exporter(server, ledger=ledger.url) as exporter:
        exporter.sync()
        with exporter.running() as client:
            client.wait_until_ready()
            client.wait_for_polls(4)
            polls, before = client.polls(), ledger.spent(client)
            time.sleep(seconds)
            client.wait_for_polls(1)
            spent, polls = ledger.spent(client).since(before), client.polls() - polls
            return (
                *(f"{jobs:,}", ledger.name, f"{polls}", f"{spent.cpu / polls * 1e3:,.1f}"),
                *(f"{spent.database_cpu / polls * 1e3:,.1f}", f"{spent.statements / polls:.0f}"),
                *(f"{spent.bytes / polls / 1e3:,.1f}", f"{resident_mib(client.pid):.1f}"),
            )


def measure_many(
    server: Server, ledger: Ledger, targets: int, interval: float, seconds: float
) -> tuple[str, ...]:
    """Measure many targets, in which jobs end and begin: with PostgreSQL over two replicas."""
    with ExitStack() as stack:
        clients = []
        for _ in range(1 if ledger.database is None else 2):
            settings = {"interval_seconds": interval, "projects": targets, "ledger": ledger.url}
            exporter = stack.enter_context(programs.exporter(server, **settings))
            clients.append(stack.enter_context(exporter.running()))
        for client in clients:
            client.wait_until_ready(look_seconds=0.2)
            client.wait_until_all_polled(targets)
        time.sleep(interval)
        # Each replica exports the polls of all targets.
        first = clients[0]
        before, begun = Scrape.of(first.scrape(*_NAMES)), ledger.spent(*clients)
        slowest = _watched(clients, interval, seconds)
        spent, after = ledger.spent(*clients).since(begun), Scrape.of(first.scrape(*_NAMES))
        polls = after.polls - before.polls
        return (
            *(f"{targets:,}", ledger.name, f"{polls:.0f}"),
            *(f"{targets * spent.wall / interval:.0f}", f"{after.failed:.0f}"),
            *(f"{after.skipped - before.skipped:.0f}", f"{slowest:.2f}"),
            *(f"{spent.cpu / spent.wall:.0%}", f"{spent.database_cpu / spent.wall:.0%}"),
            *(f"{spent.cpu / polls * 1e3:.1f}", f"{spent.database_cpu / polls * 1e3:.1f}"),
            *(f"{spent.statements / polls:.0f}", f"{spent.bytes / polls / 1e3:.1f}"),
            f"{sum(resident_mib(client.pid) for client in clients):.0f}",
        )


def _watched(clients: Sequence[Client], interval: float, seconds: float) -> float:
    """Change jobs, and scrape all, for so many seconds. Returns the duration of the longest poll."""
    ends = time.monotonic() + seconds
    scraping = changing = time.monotonic()
    slowest = 0.0
    while (now := time.monotonic()) < ends:
        if now >= changing:
            clients[0].server.change(1, 1)
            changing += interval
        if now >= scraping:
            slowest = max(slowest, *(Scrape.of(client.scrape(*_NAMES)).slowest for client in clients))
            scraping += _SCRAPE_SECONDS
        time.sleep(0.1)
    return slowest


def main(
    jobs: Sequence[int],
    listed: Sequence[int],
    targets: Sequence[int],
    interval: float,
    seconds: float,
    rounds: int,
) -> None:
    """Run the benchmark and print the tables."""
    settings = "shared_preload_libraries = 'pg_stat_statements'\nshared_buffers = 128MB\n"
    with postgres_server(settings) as server:
        # What is committed goes to the disk, as with SQLite.
        server.options = ()
        server.restart()
        show("First sync", _SYNC_COLUMNS, list(_syncs(server, jobs, rounds)), "The run of the median time.")
        quiet = list(_each(server, listed, partial(measure_quiet, seconds=seconds)))
        show("Quiet poll", _QUIET_COLUMNS, quiet, "CPU, statements and kB per poll.")
        note = "PostgreSQL with two replicas, whose figures are added. Statements and kB per poll."
        timed = partial(measure_many, interval=interval, seconds=seconds)
        many = list(_each(server, targets, timed, jobs=1_000, in_flight=20))
        show(f"Many targets, every {interval:g} s", _MANY_COLUMNS, many, note)


def _syncs(server: PostgresServer, jobs: Sequence[int], rounds: int) -> Iterator[tuple[str, ...]]:
    for many in jobs:
        with programs.page_server(many) as pages:
            runs: dict[str, list[tuple[Spent, float]]] = {}
            for number in range(rounds):
                say(f"{many:,} jobs, round {number + 1} of {rounds}")
                with ledgers(server) as both:
                    for ledger in both:
                        runs.setdefault(ledger.name, []).append(measure_sync(pages, ledger))
            yield from (_sync_row(many, ledger, runs[ledger.name]) for ledger in both)


def _each(
    server: PostgresServer,
    sizes: Sequence[int],
    measure: Callable[[Server, Ledger, int], tuple[str, ...]],
    *,
    jobs: int | None = None,
    in_flight: int = 200,
) -> Iterator[tuple[str, ...]]:
    """Measure each size with each back end. Shape: `jobs` is how many a target has, None for the size."""
    for size in sizes:
        with programs.page_server(jobs or size, in_flight=in_flight) as pages, ledgers(server) as both:
            for ledger in both:
                say(f"{size:,}, {ledger.name}")
                yield measure(pages, ledger, size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, nargs="*", default=[200_000])
    parser.add_argument("--listed", type=int, nargs="*", default=[200_000, 1_000_000])
    parser.add_argument("--targets", type=int, nargs="*", default=[200, 1_000])
    parser.add_argument("--interval", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    main(
        *(chosen.jobs, chosen.listed, chosen.targets),
        *(chosen.interval, chosen.seconds, chosen.rounds),
    )
