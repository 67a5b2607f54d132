"""
What the live counters leave out of a job's row: pure.

A row tells of one run: when its job was created, when the run started and when it ended. With
`metrics.count_history` all of that would count. The live counters count what is news by the baseline. So the
past is the first without the second, and both come from `transition()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from exporter.backfill.plan import TargetPlan
from exporter.counting.transitions import Transition
from exporter.model import Job


class PastKind(IntEnum):
    """What happens to a job. In this order where several happen at the same time."""

    CREATED = 0
    STARTED = 1
    ENDED = 2
    FORGOTTEN = 3  # the job leaves the lookback


@dataclass(frozen=True, slots=True)
class PastMoment:
    """
    Something that happens to a job.

    Shape: `counted` is what it adds to the counters, None where that was counted live, or is out of the time
    to write. Units: `at_ms` by our own clock.
    """

    at_ms: int
    kind: PastKind
    counted: Transition | None


def moments_of(job: Job, plan: TargetPlan, lookback_ms: int | None) -> Iterator[PastMoment]:
    """Give what happened to a job before `plan.until_ms`, in order."""
    raise NotImplementedError
