"""
What to count when a job is seen: a pure function from (row known, row seen, baseline).

A *run* starts when the job gets a start time and ends when it enters a terminal status. A job that is
restarted keeps its id and runs again, so a row alone does not say whether its run was counted already: the
ledger's row does. The rules, and the promise each one keeps (contract, "What must hold"):

- A job known in flight and seen terminal has ended a run: one is counted, whenever it ended.
- A job known terminal and seen terminal has ended another run only if its start time differs, or it had an
  end time and that differs. An end time that was missing and is there now completes the row of the same run.
- A job never seen before counts by the baseline: what ended before the first complete sync began is history.
- A start is counted once for each start time a job shows.
- A row older than the one known (`updated_ms`) is a late copy of the past and changes nothing; unless the one
  known is of a time yet to come: that was stamped by a clock that has been put right since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from exporter.model import TERMINAL_STATUSES, Job, is_terminal


class KnownJob(msgspec.Struct, frozen=True, gc=False):
    """
    What the ledger remembers of a job.

    Shape: `counted_start_ms` is the last start that was counted or belongs to the baseline; it outlives a
    row that shows no start time for a while. `listed` is False for a job that is no longer listed.
    """

    job_type: str
    status: str
    created_ms: int
    updated_ms: int
    started_ms: int | None
    ended_ms: int | None
    counted_start_ms: int | None
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Baseline:
    """
    What counts of jobs that were never seen before.

    Shape: `at_ms` is when the first complete sync began, by the server's clock (None: all history counts);
    `first_sync` is True while that sync is being recorded; jobs created before `forgotten_before_ms` may have
    been counted and pruned since, so they count only for what they do from now on; no job is updated after
    `latest_ms`, unless by a wrong clock (None: any time may be right).
    """

    at_ms: int | None
    first_sync: bool = False
    forgotten_before_ms: int | None = None
    latest_ms: int | None = None

    def is_news(self, at_ms: int) -> bool:
        """Tell whether what happened at `at_ms` is news, where the first sync itself is reading it."""
        return self.at_ms is None or not self.first_sync or at_ms >= self.at_ms

    def ended_before(self, ended_ms: int) -> bool:
        return self.at_ms is not None and ended_ms < self.at_ms

    def forgot(self, job: Job) -> bool:
        return self.forgotten_before_ms is not None and job.created_ms < self.forgotten_before_ms

    def is_yet_to_come(self, at_ms: int) -> bool:
        return self.latest_ms is not None and at_ms > self.latest_ms


@dataclass(frozen=True, slots=True)
class Transition:
    """
    The row to keep and what to count.

    Units: durations in milliseconds. `submitting_ms` is set where a start is to be counted; `ended` where an
    end is, with `running_ms` None for a run that never ran or that gives no duration.
    """

    known: KnownJob
    created: bool = False
    submitting_ms: int | None = None
    ended: bool = False
    running_ms: int | None = None


def transition(known: KnownJob | None, seen: Job, baseline: Baseline) -> Transition | None:
    """Tell what the sight of a job changes; None where it is an old copy of a row already known."""
    if known is None:
        return _first_sight(seen, baseline)
    if seen.updated_ms < known.updated_ms and not baseline.is_yet_to_come(known.updated_ms):
        return None
    started = seen.started_ms is not None and seen.started_ms != known.counted_start_ms
    ended = is_terminal(seen.status) and (not is_terminal(known.status) or _is_another_run(known, seen))
    return _transition(seen, known.counted_start_ms, created=False, started=started, ended=ended)


def _first_sight(seen: Job, baseline: Baseline) -> Transition:
    if is_history(seen, baseline):
        return _transition(seen, seen.started_ms, created=False, started=False, ended=False)
    created = not baseline.forgot(seen) and baseline.is_news(seen.created_ms)
    started = seen.started_ms is not None and baseline.is_news(seen.started_ms)
    return _transition(
        seen, seen.started_ms, created=created, started=started, ended=is_terminal(seen.status)
    )


def is_history(seen: Job, baseline: Baseline) -> bool:
    """Tell whether a job never seen before had ended before anything counts."""
    return is_terminal(seen.status) and (baseline.ended_before(end_of(seen)) or baseline.forgot(seen))


def are_history(jobs: Sequence[Job], baseline_ms: int) -> list[bool]:
    """Tell the same of many at once, where nothing was forgotten: a first sync is made of them."""
    return [
        job.status in TERMINAL_STATUSES
        and (job.updated_ms if job.ended_ms is None else job.ended_ms) < baseline_ms
        for job in jobs
    ]


def _is_another_run(known: KnownJob, seen: Job) -> bool:
    if seen.started_ms != known.started_ms:
        return True
    return known.ended_ms is not None and seen.ended_ms != known.ended_ms


def _transition(
    seen: Job, counted_start_ms: int | None, *, created: bool, started: bool, ended: bool
) -> Transition:
    return Transition(
        known=KnownJob(
            job_type=seen.job_type,
            status=seen.status,
            created_ms=seen.created_ms,
            updated_ms=seen.updated_ms,
            started_ms=seen.started_ms,
            ended_ms=seen.ended_ms,
            counted_start_ms=counted_start_ms if seen.started_ms is None else seen.started_ms,
        ),
        created=created,
        submitting_ms=submitting_duration_ms(seen) if started else None,
        ended=ended,
        running_ms=running_duration_ms(seen) if ended else None,
    )


def end_of(job: Job) -> int:
    """Give a terminal job's end in ms; its last update where the API gave no end."""
    return job.updated_ms if job.ended_ms is None else job.ended_ms


def submitting_duration_ms(job: Job) -> int:
    """
    Give the time from creation to start of a started job: the API's own figure, else start less creation.

    Source: API reference, table 6, `submitting_duration`.
    """
    if job.submitting_ms is not None:
        return max(job.submitting_ms, 0)
    return max((job.started_ms or job.created_ms) - job.created_ms, 0)


def running_duration_ms(job: Job) -> int | None:
    """
    Give the run time of an ended job: the API's own figure, else end less start; None if it never started.

    Source: API reference, table 6, `running_duration`.
    """
    if job.running_ms is not None:
        return max(job.running_ms, 0)
    if job.started_ms is None or job.ended_ms is None:
        return None
    return max(job.ended_ms - job.started_ms, 0)
