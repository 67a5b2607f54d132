"""
Measuring processes and showing the results.

Linux only: it reads /proc and the CPU clocks of other processes.
"""

from __future__ import annotations

import platform
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from os import cpu_count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exporter import __version__

_CPUCLOCK_SCHED = 2
_console = Console(width=140)


@dataclass(frozen=True, slots=True)
class Cost:
    """
    The cost of a process: since its start, or between two moments.

    Units: `wall` and `cpu` in seconds, `cpu` of all threads, user and system. `bytes` include HTTP headers.
    `written` are the bytes written to files, in `writes` calls; what is sent over sockets does not count.
    """

    wall: float = 0.0
    cpu: float = 0.0
    server_cpu: float = 0.0
    requests: int = 0
    bytes: int = 0
    written: int = 0
    writes: int = 0

    def since(self, before: Cost) -> Cost:
        return Cost(
            self.wall - before.wall,
            self.cpu - before.cpu,
            self.server_cpu - before.server_cpu,
            self.requests - before.requests,
            self.bytes - before.bytes,
            self.written - before.written,
            self.writes - before.writes,
        )


def cpu_seconds(pid: int) -> float:
    """
    Return the CPU time of a process in nanosecond resolution, with that of its ended threads.

    Source: clock_getcpuclockid(3). The kernel computes the number of the clock from the process id.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def writes(pid: int) -> tuple[int, int]:
    """Return the bytes that a process has written to files, and in how many calls."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    figures = dict(line.split(": ") for line in lines)
    return int(figures["wchar"]), int(figures["syscw"])


def resident_mib(pid: int) -> float:
    """Return the resident memory."""
    return _memory(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Return the peak of the resident memory."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def show(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], note: str = "") -> None:
    """Print a table, and below it the machine."""
    table = Table(title=title, title_justify="left", caption=note, caption_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    _console.print(table)
    _console.print(machine(), style="dim")


def say(text: str) -> None:
    """Print a line of progress."""
    _console.print(text, style="dim")


def machine() -> str:
    """Return the machine and the versions in one line."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "msgspec", "prometheus-client"))
    return (
        f"{_processor()}, {cpu_count()} cores, {_memory_gib():.0f} GiB; "
        f"Linux {platform.release().split('-')[0]}; "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}; "
        f"octopus-exporter {__version__}"
    )


def ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else "-"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory_gib() -> float:
    return int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
