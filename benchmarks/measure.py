"""What a process costs, seen from outside. Linux only: /proc, and the CPU clocks of other processes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """
    What was spent, or, at one moment, has been spent.

    Units: seconds, of the wall clock and of the CPU in all threads, user and system; bytes with headers.
    """

    wall: float = 0.0
    cpu: float = 0.0
    server_cpu: float = 0.0
    requests: int = 0
    bytes: int = 0

    def since(self, before: Cost) -> Cost:
        return Cost(
            self.wall - before.wall,
            self.cpu - before.cpu,
            self.server_cpu - before.server_cpu,
            self.requests - before.requests,
            self.bytes - before.bytes,
        )


def cpu_seconds(pid: int) -> float:
    """
    Give the CPU time of a process, to the nanosecond, threads that have ended included.

    Source: clock_getcpuclockid(3); the clock's number is made of the process id as the kernel has it.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def resident_mib(pid: int) -> float:
    """Give the memory resident now."""
    return _memory(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Give the most that was ever resident."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
