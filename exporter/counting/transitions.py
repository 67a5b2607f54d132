"""
What to count when a job is seen: a pure function from (row known, row seen, baseline).

A *run* starts when the job gets a start time and ends when it enters a terminal status. A job that is
restarted keeps its id and runs again, so a row alone does not say whether its run was counted already: the
ledger's row does. The rules, and the promise each one keeps (contract, "What must hold"):

- A job known in flight and seen ended has ended a run: one is counted, whenever it ended.
- A job known ended and seen ended has ended another run only if it had a start or an end time and shows
  another one, and if that run did not end before the baseline. A time that was missing and is there now, or
  that is missing for a while, is of the same run. But a start that comes after the known end is of another
  run.
- Whether an undocumented status ends a run depends on the configuration too. Where only that has changed,
  nothing counts twice. A job that was in the status before it was named an end has ended now: that is history
  if the job was last updated before the baseline. A job that had ended in a status which is no end any more
  stays ended while it shows the same run in that status, since the run is counted.
- A job never seen before counts by the baseline: what was created, started or ended before the first complete
  sync began is history, also where a fault of the server shows it later.
- A start is counted once for each start time a job shows. One that comes to light although nothing has
  happened to the job since, or after its run has ended, is history if it was before the baseline.
- A run is a rerun if an end of its job was seen before. It is counted as one with its start, or with its end
  where no start of it was counted.
- A row older than the one known (`updated_ms`) is a late copy of the past and changes nothing; unless the one
  known is of a time yet to come: that was stamped by a clock that has been put right since.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from exporter.model import OTHER, STATUSES, TERMINAL_STATUSES, Job

ALL_TYPES = "*"
_TERMINAL = frozenset(TERMINAL_STATUSES)
_DOCUMENTED = frozenset(STATUSES)
# The times of the API span so much (API reference, `start_time`): no duration is longer.
_LONGEST_MS = 1_000_000_000_000


class KnownJob(msgspec.Struct, frozen=True, gc=False):
    """
    What the ledger remembers of a job.

    Shape: `counted_start_ms` is the last start that was counted or belongs to the baseline; it outlives a
    row that shows no start time for a while. `ended_ms` of a job in flight is the end of the run before, None
    where that is not known. `listed` is False for a job that is no longer listed, of which `in_flight` tells
    what it was when last listed. `runs` is how many of its runs were seen to end, counted ones and history.
    `rerun` tells that the run under way was counted as a rerun. `start_counted` and `end_counted` tell of the
    last start and the last end that counters have them; else they are history.
    """

    job_type: str
    status: str
    created_ms: int
    updated_ms: int
    started_ms: int | None
    ended_ms: int | None
    counted_start_ms: int | None
    listed: bool
    in_flight: bool
    runs: int
    rerun: bool
    start_counted: bool
    end_counted: bool


@dataclass(frozen=True, slots=True)
class Baseline:
    """
    What counts of jobs that were never seen before.

    Shape: `at_ms` is when the first complete sync began, by the clock of the rows (None: all history counts);
    jobs created before `forgotten_before_ms` may have been counted and pruned since, so they count only for
    what they do from now on; no job is updated after `latest_ms`, unless by a wrong clock (None: any time may
    be right). `is_first_sync` at the first sync: then nothing with a time in the future counts.
    """

    at_ms: int | None
    forgotten_before_ms: int | None = None
    latest_ms: int | None = None
    is_first_sync: bool = False

    def is_news(self, at_ms: int) -> bool:
        """Tell whether what happened at `at_ms` to a job that was never seen before counts."""
        if self.at_ms is None:
            return True
        return at_ms >= self.at_ms and not (self.is_first_sync and self.is_yet_to_come(at_ms))

    def forgot(self, job: Job) -> bool:
        return self.forgotten_before_ms is not None and job.created_ms < self.forgotten_before_ms

    def is_yet_to_come(self, at_ms: int) -> bool:
        return self.latest_ms is not None and at_ms > self.latest_ms


@dataclass(frozen=True, slots=True)
class Baselines:
    """
    The baselines of a target: one for all job types, or one for each type that the configuration lists.

    A type that comes into scope later gets a baseline of its own, so that its past is no spike. One that
    leaves scope loses it.
    Shape: `at_ms` by job type or ALL_TYPES, None where all history counts; `latest_ms` and `is_first_sync` as
    Baseline's. `begun` are those that begin with this poll: of their jobs none was known and pruned before.
    """

    at_ms: dict[str, int | None]
    forgotten_before_ms: int | None
    latest_ms: int | None = None
    is_first_sync: bool = False
    begun: frozenset[str] = frozenset()

    def of(self, job_type: str) -> Baseline:
        """Give the baseline that holds for a type."""
        scope = job_type if job_type in self.at_ms else ALL_TYPES
        forgotten_before_ms = None if scope in self.begun else self.forgotten_before_ms
        return Baseline(self.at_ms.get(scope), forgotten_before_ms, self.latest_ms, self.is_first_sync)


def rescope(
    known: dict[str, int | None],
    job_types: tuple[str, ...],
    began_ms: int | None,
    forgotten_before_ms: int | None,
    shown: Collection[str],
) -> Baselines:
    """
    Give the baselines for the types now in scope; what is new to it begins at `began_ms`.

    So does a type that was polled with all others and is not among those `shown`: its runs were counted as
    those of "other", and its jobs were kept as such.
    """
    scope = job_types or (ALL_TYPES,)
    kept = {
        name: known.get(name, known.get(ALL_TYPES))
        for name in scope
        if name in known or (ALL_TYPES in known and name in shown)
    }
    begun = dict.fromkeys(sorted(set(scope) - kept.keys()), began_ms)
    # Types that were listed one by one keep their own beginning when all types come into scope.
    at_ms = {**(known if not job_types else kept), **begun}
    return Baselines(at_ms, forgotten_before_ms, begun=frozenset(begun))


def latest(at_ms: dict[str, int | None]) -> int | None:
    """Give the latest of a target's baselines, for people to read; None where all history counts."""
    return max((at for at in at_ms.values() if at is not None), default=None)


@dataclass(frozen=True, slots=True)
class Transition:
    """
    The row to keep and what to count.

    Units: durations in milliseconds. `submitting_ms` is set where a start is to be counted; `ended` where an
    end is, with `running_ms` None for a run that never ran or that gives no duration. `waited_ms` is how long
    the run that ended waited for its start, whenever that was counted; None where it never started.
    """

    known: KnownJob
    created: bool = False
    rerun: bool = False
    submitting_ms: int | None = None
    ended: bool = False
    running_ms: int | None = None
    waited_ms: int | None = None


def transition(known: KnownJob | None, seen: Job, baseline: Baseline) -> Transition | None:
    """Decide what a row changes and what of it counts; None for an old copy of the row that is known."""
    seen = _without_empty_times(seen)
    if known is None:
        return _first_sight(seen, baseline)
    if seen.updated_ms < known.updated_ms and not baseline.is_yet_to_come(known.updated_ms):
        return None
    started = _has_started(known, seen, baseline)
    has_ended = seen.has_ended or _stays_ended(known, seen)
    if known.in_flight:
        another = has_ended
        ended = another and _is_end_news(known, seen, baseline)
    else:
        another = has_ended and _is_another_run(known, seen)
        ended = another and baseline.is_news(end_of(seen))
    starts_again = started and (another or not has_ended) and _is_after_last_end(known, seen)
    rerun = known.runs > 0 and (starts_again or (ended and not known.rerun))
    return Transition(
        known=_row(
            seen,
            known,
            has_ended=has_ended,
            another=another,
            runs=known.runs + another,
            rerun=rerun,
            start_counted=started
            or (known.start_counted and seen.started_ms in (None, known.counted_start_ms)),
            end_counted=ended or (known.end_counted and not another),
        ),
        rerun=rerun,
        submitting_ms=submitting_duration_ms(seen, known) if started else None,
        ended=ended,
        running_ms=running_duration_ms(seen) if ended else None,
        waited_ms=_waited_ms(seen, known) if ended else None,
    )


def _without_empty_times(seen: Job) -> Job:
    """Treat a time of 0 or less as missing."""
    started = seen.started_ms is not None and seen.started_ms <= 0
    ended = seen.ended_ms is not None and seen.ended_ms <= 0
    if not started and not ended:
        return seen
    return msgspec.structs.replace(
        seen,
        started_ms=None if started else seen.started_ms,
        ended_ms=None if ended else seen.ended_ms,
    )


def _first_sight(seen: Job, baseline: Baseline) -> Transition:
    # A pruned job shows up again only because it runs again. So at least one run came before this one.
    before = not seen.has_ended and baseline.forgot(seen)
    # In an undocumented status it may show the run that was counted: the status may have been named an end.
    may_be_counted = before and seen.status not in _DOCUMENTED
    started = seen.started_ms is not None and baseline.is_news(seen.started_ms) and not may_be_counted
    rerun = before and started
    counts = not is_history(seen, baseline)
    row = _row(
        seen,
        None,
        has_ended=seen.has_ended,
        another=seen.has_ended,
        runs=int(seen.has_ended or before),
        rerun=rerun,
        start_counted=counts and started,
        end_counted=counts and seen.has_ended,
    )
    if not counts:
        return Transition(row)
    return Transition(
        known=row,
        rerun=rerun,
        created=not baseline.forgot(seen) and baseline.is_news(seen.created_ms),
        submitting_ms=submitting_duration_ms(seen) if started else None,
        ended=seen.has_ended,
        running_ms=running_duration_ms(seen) if seen.has_ended else None,
        waited_ms=_waited_ms(seen, None) if seen.has_ended else None,
    )


def is_history(seen: Job, baseline: Baseline) -> bool:
    """Tell whether a job never seen before had ended before anything counts."""
    return seen.has_ended and (not baseline.is_news(end_of(seen)) or baseline.forgot(seen))


def ended_before(seen: Job, at_ms: int) -> bool:
    """
    Tell whether the run that a row shows had ended before a time.

    A job never seen before is history if it had ended before the baseline: see is_history.
    """
    # The status alone tells it of nearly all rows of a first sync, and costs less to look at.
    return (seen.status in _TERMINAL or seen.has_ended) and end_of(seen) < at_ms


def _has_started(known: KnownJob, seen: Job, baseline: Baseline) -> bool:
    """Tell whether a known job shows a start that is to be counted."""
    if seen.started_ms is None or seen.started_ms == known.counted_start_ms:
        return False
    comes_late = not known.in_flight or _is_same_row(known, seen)
    return not comes_late or baseline.is_news(seen.started_ms)


def _is_end_news(known: KnownJob, seen: Job, baseline: Baseline) -> bool:
    """Tell whether a job that was in flight and has ended is to be counted."""
    if _has_same_status(known, seen) and seen.ended_ms is None and not _is_another_run(known, seen):
        # Only the configuration has changed: the run had ended before that.
        return baseline.is_news(known.updated_ms) and not _may_be_counted(known, seen, baseline)
    return not _is_same_row(known, seen) or baseline.is_news(end_of(seen))


def _may_be_counted(known: KnownJob, seen: Job, baseline: Baseline) -> bool:
    """Tell whether the run may have been counted before its job was pruned: see _first_sight."""
    return baseline.forgot(seen) and known.runs > 0 and not (known.start_counted or known.end_counted)


def _is_another_run(known: KnownJob, seen: Job) -> bool:
    """
    Tell whether a job that had ended shows the end of another run, counted or not.

    A time that comes late, or does not come for a while, is of the run that is known; but a start after the
    end of that run is not.
    """
    starts_later = known.counted_start_ms is None and not _is_before(seen.started_ms, known.ended_ms)
    return (
        starts_later or _differ(known.started_ms, seen.started_ms) or _differ(known.ended_ms, seen.ended_ms)
    )


def _is_before(at_ms: int | None, end_ms: int | None) -> bool:
    """Tell whether a time is not after another one; True also where one of them is missing."""
    return at_ms is None or end_ms is None or at_ms <= end_ms


def _differ(known_ms: int | None, seen_ms: int | None) -> bool:
    return known_ms is not None and seen_ms is not None and known_ms != seen_ms


def _is_after_last_end(known: KnownJob, seen: Job) -> bool:
    """Tell whether the start is after the last known end; else it is of a run that has ended."""
    return known.ended_ms is None or seen.started_ms is None or seen.started_ms >= known.ended_ms


def _is_same_row(known: KnownJob, seen: Job) -> bool:
    """Tell whether nothing has happened to a job since it was last seen, as far as its row says."""
    return _has_same_status(known, seen) and seen.updated_ms == known.updated_ms


def _has_same_status(known: KnownJob, seen: Job) -> bool:
    """Tell whether a job is in the status it was in, which may have a label of its own only now."""
    gets_label = known.status == OTHER and seen.status not in _DOCUMENTED
    return seen.status == known.status or (gets_label and seen.updated_ms == known.updated_ms)


def _stays_ended(known: KnownJob, seen: Job) -> bool:
    """Tell whether a job that had ended shows the same run in a status that no longer counts as an end."""
    return not known.in_flight and _has_same_status(known, seen) and not _is_another_run(known, seen)


def _row(
    seen: Job,
    known: KnownJob | None,
    *,
    has_ended: bool,
    another: bool,
    runs: int,
    rerun: bool,
    start_counted: bool,
    end_counted: bool,
) -> KnownJob:
    ended_ms, counted_start_ms = seen.ended_ms, seen.started_ms
    if known is not None:
        # A time that is missing for a while keeps its last value, and does not look like a change. But the
        # end of another run may come late: it is not the end of the run before.
        ended_ms = known.ended_ms if ended_ms is None and not another else ended_ms
        counted_start_ms = known.counted_start_ms if counted_start_ms is None else counted_start_ms
    return KnownJob(
        job_type=seen.job_type,
        status=seen.status,
        created_ms=seen.created_ms,
        updated_ms=seen.updated_ms,
        started_ms=seen.started_ms,
        ended_ms=ended_ms,
        counted_start_ms=counted_start_ms,
        listed=True,
        in_flight=not has_ended,
        runs=runs,
        rerun=not has_ended and (rerun or (known is not None and known.rerun)),
        start_counted=start_counted,
        end_counted=end_counted,
    )


def end_of(job: Job) -> int:
    """Give the end in ms of a run that has ended; the job's last update where the API gave no end."""
    return job.ended_ms if job.ended_ms is not None and job.ended_ms > 0 else job.updated_ms


def submitting_duration_ms(job: Job, known: KnownJob | None = None) -> int:
    """
    Give the time from creation to start of a started job: the API's own figure, else start less creation.

    The API's figure of a job that runs again may reach back to its first creation. So it is no more than the
    time since the end of the run before, or since its start where no end is known. There is always a figure,
    since every start is observed: 0 where the times contradict each other.
    Source: API reference, table 6, `submitting_duration`.
    """
    started_ms = job.created_ms if job.started_ms is None else job.started_ms
    waited_ms = _plausible(job.submitting_ms)
    if waited_ms is None:
        waited_ms = max(started_ms - job.created_ms, 0)
    before = () if known is None else (known.ended_ms, known.counted_start_ms)
    return min([waited_ms, *(started_ms - at for at in before if at is not None and at <= started_ms)])


def _waited_ms(job: Job, known: KnownJob | None) -> int | None:
    """Give how long an ended run waited for its start; None where the row shows no start."""
    if job.started_ms is None:
        return _plausible(job.submitting_ms) or None  # 0 says "none" here
    if known is not None and known.counted_start_ms == job.started_ms:
        # Its start was counted by an earlier poll: it is not the start of the run before.
        known = msgspec.structs.replace(known, counted_start_ms=None)
    return submitting_duration_ms(job, known)


def running_duration_ms(job: Job) -> int | None:
    """
    Give the run time of an ended job: the API's own figure, else end less start; None if it never started, or
    if its times contradict each other.

    Source: API reference, table 6, `running_duration`.
    """
    ran_ms = _plausible(job.running_ms)
    if job.started_ms is None:
        return ran_ms or None  # 0 says "none" here
    if ran_ms is None and job.ended_ms is not None:
        return _plausible(job.ended_ms - job.started_ms)
    return ran_ms


def _plausible(duration_ms: int | None) -> int | None:
    """Give the duration, or None where it is negative or longer than the API's times span."""
    return duration_ms if duration_ms is not None and 0 <= duration_ms <= _LONGEST_MS else None
