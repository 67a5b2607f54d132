"""
Fill the table with the jobs of the past, a million of them in seconds.

Pure. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from array import array
from random import Random

from exporter.simulator.arrivals import Arrivals
from exporter.simulator.lives import Run, plan_run
from exporter.simulator.table import Table


def fill_history(
    table: Table, arrivals: Arrivals, rng: Random, created_ms: array[int], listings: int, now_ms: int
) -> dict[int, Run]:
    """
    Append a job for every creation time; return the runs that are not over now, by job, none begun.

    This is the one loop over everything at start: it sets a few cells per job, and calls as little as it can.
    """
    table.extend(created_ms)
    running: dict[int, Run] = {}
    for row, at_ms in enumerate(created_ms):
        profile = arrivals.profile_at(rng, at_ms)
        table.job_type[row] = table.types.number(profile.job_type)
        table.listing[row] = int(rng.random() * listings)
        run = plan_run(rng, profile, at_ms)
        if run.times_ms[-1] <= now_ms:
            _write_down(table, row, run)
        else:
            running[row + 1] = run
    table.last_update_ms = max(table.updated_ms, default=0)
    return running


def _write_down(table: Table, row: int, run: Run) -> None:
    """Set the row to a run that is over."""
    table.status[row] = table.statuses.number(run.last)
    table.updated_ms[row] = table.ended_ms[row] = run.times_ms[-1]
    table.started_ms[row] = run.started_ms
    table.msg_code[row] = run.msg_code
