"""
Writes the past of all targets as OpenMetrics, a file a UTC day.

    # TYPE octopus_jobs_created counter
    octopus_jobs_created_total{project="p",workspace="0",job_type="FRAME_EXTRACT",job="octopus"} 12 1764201600
    # EOF
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from exporter.backfill.plan import BackfillPlan, Estimate, WrittenDay
from exporter.backfill.spool import Spool


def estimate(plan: BackfillPlan, spool: Spool) -> tuple[Estimate, ...]:
    """Say about how much each target will take, before anything is written."""
    raise NotImplementedError


def write_days(
    plan: BackfillPlan, spool: Spool, output: Path, on_day: Callable[[int], None]
) -> Sequence[WrittenDay]:
    """
    Write the files; each has its name once it is complete.

    Shape: `on_day` is called with the number of days written. Raises: BackfillError (the disk is full, …).
    """
    raise NotImplementedError
