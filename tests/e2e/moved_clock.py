"""
Run the exporter with a wall clock that a test can move while it runs; its monotonic clock stays right.

Usage: python -m tests.e2e.moved_clock FILE ARGUMENTS…, as `python -m exporter ARGUMENTS…`. The file holds how
many seconds the clock is ahead, as a double of the machine. (libfaketime does not do: with it, the sleep of
Python 3.11 fails.)
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_AHEAD = struct.Struct("d")


def move_clock(file: Path, seconds: float) -> None:
    """Say how many seconds the clock of processes with this file is ahead, from now on."""
    if not file.exists():
        file.write_bytes(_AHEAD.pack(0))
    with file.open("r+b") as opened:
        opened.write(_AHEAD.pack(seconds))


def _follow(file: Path) -> None:
    with file.open("rb") as opened:
        ahead = mmap.mmap(opened.fileno(), _AHEAD.size, access=mmap.ACCESS_READ)
    true_time = time.time

    def moved_time() -> float:
        seconds: float = _AHEAD.unpack_from(ahead)[0]
        return true_time() + seconds

    time.time = moved_time
    time.time_ns = lambda: int(moved_time() * 1e9)


if __name__ == "__main__":
    # Before the exporter is imported: its functions take the clock as an argument's default.
    _follow(Path(sys.argv.pop(1)))
    runpy.run_module("exporter", run_name="__main__", alter_sys=True)
