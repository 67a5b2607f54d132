"""How results are shown: the machine, and a table."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterable
from importlib.metadata import version
from os import cpu_count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exporter import __version__

_console = Console(width=140)


def show(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], note: str = "") -> None:
    """Print a table, below it the machine."""
    table = Table(title=title, title_justify="left", caption=note, caption_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    _console.print(table)
    _console.print(machine(), style="dim")


def say(text: str) -> None:
    """Print a line on how far it has come."""
    _console.print(text, style="dim")


def machine() -> str:
    """Name the machine and the versions."""
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
