"""
Find finished jobs that were deleted, without reading everything.

No question about changes shows a finished job that was deleted: the API's total is less than the ledger's
number, and that is all. But both can be compared from any creation time on. So halve the span of creation
times until a few jobs are left, and ask for each of those by id. One job in a million costs twenty requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

# A span with so many jobs for each one that is missing is asked for job by job: halving costs as much.
_JOBS_FOR_EACH = 3
# Servers may compare creation times by the second.
_STEP_MS = 1_000


class JobCounts(Protocol):
    """What the search can ask: sync.proof."""

    async def difference_since(self, start_ms: int) -> int | None:
        """Give the API's total less the ledger's number of the jobs created since; None without a total."""

    async def listed_between(self, start_ms: int, end_ms: int, most: int) -> tuple[int, ...]:
        """Name the jobs that the ledger lists with a creation time in this span, `most` of them at most."""

    async def is_deleted(self, job_id: int) -> bool:
        """Ask the API for a job by its id."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Creation times from `start_ms` to before `end_ms`, of which `missing` jobs are not listed any more."""

    start_ms: int
    end_ms: int
    missing: int


async def find_deleted(
    counts: JobCounts, start_ms: int, end_ms: int, missing: int, most_requests: int
) -> tuple[int, ...] | None:
    """
    Name the `missing` jobs, created from `start_ms` to before `end_ms`, that the API does not list any more.

    Returns None where they are not found with `most_requests`, or where the numbers contradict each other, as
    on a project that is busy deleting.
    """
    spans = [_Span(start_ms // _STEP_MS * _STEP_MS, -(-end_ms // _STEP_MS) * _STEP_MS, missing)]
    found: list[int] = []
    requests = 0
    while spans:
        span = spans.pop()
        most = _JOBS_FOR_EACH * span.missing
        jobs = await counts.listed_between(span.start_ms, span.end_ms, most + 1)
        if len(jobs) <= most or span.end_ms - span.start_ms <= _STEP_MS:
            requests += len(jobs)
            if requests > most_requests:
                return None
            found += [job_id for job_id in jobs if await counts.is_deleted(job_id)]
            continue
        # The spans that wait are all earlier ones; what is missing later than this one has been found.
        later = missing - span.missing - sum(earlier.missing for earlier in spans)
        requests += 1
        halves = await _halves(counts.difference_since, span, later)
        if halves is None or requests > most_requests:
            return None
        spans += halves
    return tuple(found) if len(found) == missing else None


async def _halves(
    difference_since: Callable[[int], Awaitable[int | None]], span: _Span, missing_after: int
) -> list[_Span] | None:
    """Tell in which half of a span how many jobs are missing; None where that makes no sense."""
    middle_ms = (span.start_ms + span.end_ms) // 2 // _STEP_MS * _STEP_MS
    difference = await difference_since(middle_ms)
    if difference is None:
        return None
    late = -difference - missing_after
    if not 0 <= late <= span.missing:
        return None
    halves = (
        _Span(span.start_ms, middle_ms, span.missing - late),
        _Span(middle_ms, span.end_ms, late),
    )
    return [half for half in halves if half.missing]
