"""
A backfill: its time, memory and files, and the blocks that promtool makes of them.

Usage: python -m benchmarks.backfill [--jobs N …] [--rules]

The exporter syncs first, so that its ledger has a baseline; then `backfill` reads all jobs and writes the
days. `load.sh` makes blocks in an empty folder, with `--rules` also of the recording rules. Memory is that of
the largest process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import programs
from benchmarks.measure import say, show

_COLUMNS = (
    *("jobs", "wall s", "CPU s", "peak MiB", "files", "MiB", "gzip MiB"),
    *("load wall s", "load CPU s", "load peak MiB", "blocks", "MiB"),
)
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process and its children took. Units: seconds and MiB."""

    wall: float
    cpu: float
    peak: float


def measure(jobs: int, *, rules: bool) -> tuple[str, ...]:
    with programs.page_server(jobs) as server, programs.exporter(server) as exporter:
        say(f"{jobs:,} jobs: the first sync")
        exporter.sync()
        with tempfile.TemporaryDirectory() as name:
            history, blocks = Path(name) / "history", Path(name) / "blocks"
            blocks.mkdir()
            labels = ("--label", "job=octopus", "--label", "instance=exporter:10877")
            config = str(exporter.folder / "config.yaml")
            say(f"{jobs:,} jobs: the backfill")
            backfill = ("backfill", "--config", config, "--output", str(history), *labels)
            written = finish([sys.executable, "-m", "exporter", *backfill], {})
            days = sorted(history.glob("*.om"))
            say(f"{jobs:,} jobs: the blocks")
            loaded = finish([str(history / "load.sh"), str(blocks)], {"RULES": "yes" if rules else "no"})
            made = [file.parent for file in blocks.glob("*/meta.json")]
            packed = sum(packed_bytes(day) for day in days)
            return (
                f"{jobs:,}",
                *(f"{value:.0f}" for value in (written.wall, written.cpu, written.peak)),
                *(
                    str(len(days)),
                    f"{sum(day.stat().st_size for day in days) / _MIB:.0f}",
                    f"{packed / _MIB:.0f}",
                ),
                *(f"{value:.0f}" for value in (loaded.wall, loaded.cpu, loaded.peak)),
                *(str(len(made)), f"{sum(size_of(block) for block in made) / _MIB:.0f}"),
            )


def finish(command: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Run a command to its end, and measure it."""
    begun = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return Finished(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def packed_bytes(file: Path) -> int:
    with subprocess.Popen(["gzip", "--fast", "--stdout", file], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout
        return sum(len(chunk) for chunk in iter(lambda: output.read(_MIB), b""))


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main(jobs: Sequence[int], *, rules: bool) -> None:
    rows = [measure(count, rules=rules) for count in jobs]
    show("A backfill of 30 days", _COLUMNS, rows, "load: promtool, and with --rules a Prometheus")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--rules", action="store_true", help="the history of the recording rules too")
    chosen = parser.parse_args()
    main(chosen.jobs, rules=chosen.rules)
