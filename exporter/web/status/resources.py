"""What the jobs in flight asked for, of one target and of several: sums for the status, rows for its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from exporter.counting.resources import parse_spec
from exporter.model import OTHER, WAITING_STATUSES
from exporter.web.run_record import Masked

# The number of jobs by spec, then status; the spec is "" where the row has none.
JobsBySpec = Mapping[str, Mapping[str, int]]
# Why the jobs of a spec are in no sum; "read" if they are in the sums.
Note = Literal["read", "missing", "other", "unreadable"]


@dataclass(frozen=True, slots=True)
class ResourceSum:
    """
    What some jobs asked for.

    Shape: `jobs` counts those whose spec can be read, `jobs_left_out` all others: their spec is missing,
    unreadable, or counted as "other". They add nothing to the sums.
    """

    cores: float = 0.0
    gpus: float = 0.0
    memory_gibibytes: float = 0.0
    jobs: int = 0
    jobs_left_out: int = 0


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """What the jobs in flight asked for: those that have started, and those that wait to start."""

    in_use: ResourceSum
    waiting: ResourceSum


@dataclass(frozen=True, slots=True)
class SpecRow:
    """One row of the table: the jobs in flight that asked for one spec."""

    spec: str
    note: Note
    use: ResourceUse

    @property
    def jobs(self) -> int:
        return sum(part.jobs + part.jobs_left_out for part in (self.use.in_use, self.use.waiting))


def jobs_by_spec(counts: Mapping[tuple[str, str], int], masked: Masked) -> dict[str, Counter[str]]:
    """Lay out the counts of one target, by (spec, status); specs that look the same when masked are one."""
    jobs: dict[str, Counter[str]] = {}
    for (spec, status), count in sorted(counts.items()):
        jobs.setdefault(masked(spec), Counter())[status] += count
    return jobs


def added_up(targets: Iterable[JobsBySpec]) -> dict[str, Counter[str]]:
    """Add up the jobs of several targets."""
    jobs: dict[str, Counter[str]] = {}
    for by_spec in targets:
        for spec, by_status in by_spec.items():
            jobs.setdefault(spec, Counter()).update(by_status)
    return jobs


def resource_use(jobs: JobsBySpec) -> ResourceUse:
    """Add up what these jobs asked for. A job that waits has not started; all others are in use."""
    return ResourceUse(_sum(jobs, waiting=False), _sum(jobs, waiting=True))


def _sum(jobs: JobsBySpec, *, waiting: bool) -> ResourceSum:
    cores = gpus = memory = read = left_out = 0
    for spec, by_status in jobs.items():
        count = sum(n for status, n in by_status.items() if (status in WAITING_STATUSES) == waiting)
        asked = parse_spec(spec)
        if asked is None:
            left_out += count
            continue
        read += count
        # Thousandths, because a sum of fractions would not be exact.
        cores += count * asked.cores
        gpus += count * asked.gpus
        memory += count * asked.memory
    return ResourceSum(cores / 1000, gpus / 1000, memory / 1000, read, left_out)


def spec_rows(jobs: JobsBySpec) -> list[SpecRow]:
    """Return a row for each spec that a job in flight asked for: the spec with the most jobs first."""
    rows = [SpecRow(spec, _note(spec), resource_use({spec: by_status})) for spec, by_status in jobs.items()]
    return sorted((row for row in rows if row.jobs), key=lambda row: (-row.jobs, row.spec))


def _note(spec: str) -> Note:
    if parse_spec(spec) is not None:
        return "read"
    return "other" if spec == OTHER else "unreadable" if spec else "missing"
