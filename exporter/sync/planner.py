"""
What a poll asks: pure.

A poll reads *listings*, each to its end, and then asks for the jobs that should have been listed and were
not. With a lookback there are two listings: what is in flight, however old, and what was created within the
lookback, whatever its status. Without one, the second alone is everything.

Cost in requests: pages(in flight) + pages(created within the lookback) + one for each job that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.model import IN_FLIGHT_STATUSES, Job, Target
from exporter.octopus.wire import MAX_ARRAY_VALUES, ListQuery

# Of the finished jobs that are missing, as many are asked for one by one; more are looked for by reading the
# listing once more.
MOST_SINGLE_QUESTIONS = 20


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows that match these filters; an empty filter matches all."""

    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    start_time_ms: int | None = None

    def page(self, offset: int, limit: int) -> ListQuery:
        """Give the request for the rows from `offset` on, `limit` of them at most."""
        return ListQuery(
            job_types=self.job_types,
            statuses=self.statuses,
            start_time_ms=self.start_time_ms,
            offset=offset,
            limit=limit,
        )


def in_flight_listings(target: Target) -> tuple[Listing, ...]:
    """Plan the listing of all that is in flight, without a bound in time."""
    return tuple(Listing(types, IN_FLIGHT_STATUSES) for types in _type_filters(target))


def window_listings(target: Target, horizon_ms: int | None) -> tuple[Listing, ...]:
    """Plan the listing of all that was created since `horizon_ms`, or ever."""
    return tuple(Listing(types, start_time_ms=horizon_ms) for types in _type_filters(target))


def single_question(target: Target, job_id: int) -> ListQuery:
    """Plan the question whether one job is still listed."""
    return ListQuery(job_id=job_id, offset=0, limit=1)


def belongs(target: Target, job: Job) -> bool:
    """Tell whether a row is the target's, should the server have ignored a filter."""
    workspace_fits = target.workspace_id is None or job.workspace_id in (None, target.workspace_id)
    return workspace_fits and (not target.job_types or job.job_type in target.job_types)


def _type_filters(target: Target) -> list[tuple[str, ...]]:
    """Split the job types into filters that the API takes (at most 20 values each)."""
    types = target.job_types
    return [types[at : at + MAX_ARRAY_VALUES] for at in range(0, len(types), MAX_ARRAY_VALUES)] or [()]
