"""
Half an hour of many small polls with broken responses: nothing grows, and all numbers are right at the end.

Usage: python -m benchmarks.soak [--targets N] [--minutes N] [--broken SHARE] [--speed X]

The targets are polled every second. The simulator's jobs run at `speed` times real time, and one response in
ten is broken: cut, empty, HTML with 200, or without its payload. Each row of the table is one measurement.
Then the simulated time and the faults stop, and every number is compared with the simulator's own counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import programs
from benchmarks.measure import cpu_seconds, resident_mib, say, show
from benchmarks.programs import Client, Exporter, Server
from exporter.simulator import SimulatorSettings, serve
from exporter.simulator.settings import DemoCredentials

_JOBS = 300
_INTERVAL_SECONDS = 1.0
_COLUMNS = (
    *("minutes", "polls", "failed", "RSS MiB", "descriptors", "threads"),
    *("WAL KiB", "ledger KiB", "log lines a minute", "CPU share"),
)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The resources that the exporter's process holds, and its work so far."""

    at: float
    polls: float
    failed: float
    resident_mib: float
    descriptors: int
    threads: int
    wal_bytes: int
    ledger_bytes: int
    log_lines: int
    cpu: float

    @classmethod
    def of(cls, client: Client, folder: Path) -> ProcessState:
        process = Path(f"/proc/{client.pid}")
        return cls(
            time.monotonic(),
            client.total("octopus_polls_total"),
            client.total("octopus_poll_failures_total"),
            resident_mib(client.pid),
            len(list((process / "fd").iterdir())),
            len(list((process / "task").iterdir())),
            _size(folder / "ledger.db-wal"),
            _size(folder / "ledger.db"),
            (folder / "log").read_bytes().count(b"\n"),
            cpu_seconds(client.pid),
        )

    def row(self, before: ProcessState, begin: ProcessState) -> tuple[str, ...]:
        seconds = self.at - before.at
        return (
            f"{(self.at - begin.at) / 60:.1f}",
            f"{self.polls - before.polls:.0f}",
            f"{self.failed - before.failed:.0f}",
            f"{self.resident_mib:.1f}",
            f"{self.descriptors}",
            f"{self.threads}",
            f"{self.wal_bytes / 1024:.0f}",
            f"{self.ledger_bytes / 1024:.0f}",
            f"{(self.log_lines - before.log_lines) / seconds * 60:.1f}",
            f"{(self.cpu - before.cpu) / seconds:.0%}",
        )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


@contextmanager
def _simulator(targets: int, speed: float, broken: float) -> Iterator[Server]:
    settings = {"targets": targets, "speed": speed, "faults": f"broken={broken}"}
    with programs.started("benchmarks.soak", "--serve", json.dumps(settings)) as process:
        yield Server(programs.first_line(process).removeprefix("simulator: "), process.pid)


async def _serve(targets: int, speed: float, faults: str) -> None:
    projects = tuple(programs.project_id(number) for number in range(targets))
    settings = SimulatorSettings(
        jobs=_JOBS * targets,
        jobs_per_day=_JOBS * targets / 2,
        speed=speed,
        projects=projects,
        faults=faults,
    )
    simulator = await serve(settings)
    sys.stdout.write(f"simulator: {simulator.url}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _differences(client: Client, server: Server) -> list[str]:
    """Return the differences to the simulator's counts: listed jobs and ended runs, for each target."""
    problems = []
    status = client.status()
    for target in status["targets"]:
        account = _account(server, target)
        listed = _without_zeros(target["jobs"])
        if listed != _without_zeros(account["listed"]):
            problems.append(f"{target['project']}: listed {listed}, account {account['listed']}")
        ended = sum(number for by in account["ended"].values() for number in by.values())
        counted = sum(
            sample.value
            for sample in client.scrape("octopus_jobs_completed_total")
            if sample.labels["project"] == target["project"]
        )
        if counted != ended:
            problems.append(f"{target['project']}: {counted:.0f} runs counted, account {ended}")
    return problems


def _password(server: Server) -> dict[str, str]:
    known = DemoCredentials()
    return {
        "type": "password",
        "domain": known.domain,
        "user": known.user,
        "password": known.password,
        "iam_endpoint": server.url,
    }


def _without_zeros(numbers: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(kind, status): n for kind, by in numbers.items() for status, n in by.items() if n}


def _account(server: Server, target: dict[str, Any]) -> dict[str, Any]:
    told = json.loads(programs.get(f"{server.url}/simulator/account?since_ms={target['baseline_ms']}"))
    return next(one for one in told["targets"] if one["project"] == target["project_id"])


def _settle(client: Client, server: Server, targets: int) -> list[str]:
    """Stop the simulated time and the faults, wait for two polls of every target, and compare."""
    programs.post(f"{server.url}/simulator/clock", {"speed": 0})
    programs.post(f"{server.url}/simulator/faults", {"faults": ""})
    client.wait_for_polls(4 * targets)
    time.sleep(2 * _INTERVAL_SECONDS)
    client.wait_until_released()
    return _differences(client, server)


def main(targets: int, minutes: float, broken: float, speed: float, moments: int = 6) -> None:
    """Run the benchmark and print the table. Raises: SystemExit if a number is wrong at the end."""
    with (
        _simulator(targets, speed, broken) as server,
        programs.exporter(server, projects=targets, credentials=_password(server)) as exporter,
    ):
        _soak(exporter, server, minutes, broken, speed, moments)


def _soak(
    exporter: Exporter, server: Server, minutes: float, broken: float, speed: float, moments: int
) -> None:
    with exporter.running() as client:
        client.wait_until_ready()
        begin = before = ProcessState.of(client, exporter.folder)
        rows = []
        for number in range(moments):
            time.sleep(max(begin.at + 60 * minutes * (number + 1) / moments - time.monotonic(), 0))
            now = ProcessState.of(client, exporter.folder)
            rows.append(now.row(before, begin))
            before = now
        problems = _settle(client, server, exporter.projects)
        client.stop()
    title = (
        f"{exporter.projects} targets every second, {broken:.0%} of answers broken, {speed:g} times real time"
    )
    show(title, _COLUMNS, rows, f"At the end: {len(problems)} numbers wrong.")
    for problem in problems:
        say(problem)
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--broken", type=float, default=0.1)
    parser.add_argument("--speed", type=float, default=60)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(_serve(**json.loads(chosen.serve)))
    else:
        main(chosen.targets, chosen.minutes, chosen.broken, chosen.speed)
