"""Fill the table with the jobs of the past, a million in seconds: pure. Units: Unix milliseconds UTC."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from random import Random
from typing import NamedTuple

from exporter.simulator.arrivals import HISTORY_MS, Arrivals, Submission, Users
from exporter.simulator.lifecycle import RunPlan, plan_run
from exporter.simulator.profiles import DAY_MS, MINUTE_MS, Cron, Profile
from exporter.simulator.table import Table


class PastJob(NamedTuple):
    """A job of the past, with its run from the beginning to the end."""

    created_ms: int
    listing: int
    job_type: str
    run: RunPlan


def past_jobs(arrivals: Arrivals, rng: Random, created_ms: array[int], listings: int) -> Iterator[PastJob]:
    """Draw a job for every creation time, independently of the others."""
    for at_ms in created_ms:
        profile = arrivals.profile_at(rng, at_ms)
        listing = int(rng.random() * listings)
        yield PastJob(at_ms, listing, profile.job_type, plan_run(rng, profile, at_ms))


def write_history(
    table: Table, created_ms: array[int], jobs: Iterable[PastJob], now_ms: int
) -> dict[int, RunPlan]:
    """
    Append these jobs, in the order of their creation. Return the runs that have not ended; no step is taken.

    This is the only loop over the whole history. It sets a few cells per job, and calls few functions.
    """
    table.extend(created_ms)
    running: dict[int, RunPlan] = {}
    for row, (_, listing, job_type, run) in enumerate(jobs):
        table.job_type[row] = table.types.number(job_type)
        table.listing[row] = listing
        if run.times_ms[-1] > now_ms:
            running[row + 1] = run
            continue
        table.status[row] = table.statuses.number(run.last)
        table.updated_ms[row] = table.ended_ms[row] = run.times_ms[-1]
        table.started_ms[row] = run.started_ms
        table.msg_code[row] = run.msg_code
    table.last_update_ms = max(table.updated_ms, default=0)
    return running


@dataclass(slots=True)
class HabitualHistory:
    """
    The jobs of the past if users have habits: batches, timetables, and failed jobs that are submitted again.

    Shape: `jobs` were created before now, in the order of `created_ms`; `due` are later submissions, with
    their listings.
    """

    _users: Users
    _rng: Random
    _listings: int
    _now_ms: int
    jobs: list[PastJob] = field(default_factory=list)
    created_ms: array[int] = field(default_factory=lambda: array("q"))
    due: list[tuple[int, Submission]] = field(default_factory=list)

    def fill(self, arrivals: Arrivals, profiles: tuple[Profile, ...], count: int) -> None:
        """
        Draw `count` jobs of the last 30 days.

        A quarter is spread over the 30 days. It begins with the jobs that timetables submit one by one, so
        that rare types occur. The others arrived at the rate at which jobs will arrive from now on.
        """
        rare = [(one, cron) for one in profiles for cron in one.habits.crons if cron.jobs]
        nightly = [(one, cron) for one in profiles for cron in one.habits.crons if not cron.jobs]
        recent_ms = arrivals.recent_ms(count)
        for submitted, most in (
            (self._scheduled(rare, HISTORY_MS), count // 4),
            (self._submitted(arrivals, HISTORY_MS), count // 4),
            (self._scheduled(nightly, recent_ms), count),
            (self._submitted(arrivals, recent_ms), count),
        ):
            # Check the count before each draw: one draw too many would change every job after it.
            while len(self.jobs) < most and (submissions := next(submitted, None)) is not None:
                self._add(int(self._rng.random() * self._listings), submissions, most)
        # By the time alone, so that jobs of one moment keep the order in which they were drawn.
        self.jobs.sort(key=itemgetter(0))
        self.created_ms = array("q", map(itemgetter(0), self.jobs))

    def _submitted(self, arrivals: Arrivals, span_ms: float) -> Iterator[list[Submission]]:
        # Without an end: `fill` takes as many as it needs.
        while True:
            at_ms = arrivals.past_ms(self._rng, self._now_ms, span_ms)
            yield self._users.submit(self._rng, arrivals.profile_at(self._rng, at_ms), at_ms)

    def _scheduled(self, crons: list[tuple[Profile, Cron]], span_ms: float) -> Iterator[list[Submission]]:
        """Yield what timetables submitted, the newest first."""
        today_ms = self._now_ms // DAY_MS * DAY_MS
        for day_ms in range(today_ms, int(self._now_ms - span_ms) - DAY_MS, -DAY_MS):
            for profile, cron in crons:
                at_ms = day_ms + cron.minute * MINUTE_MS
                is_past = self._now_ms - span_ms < at_ms <= self._now_ms
                if is_past and self._users.have_introduced(profile, at_ms):
                    yield self._users.scheduled(self._rng, profile, cron, at_ms)

    def _add(self, listing: int, submissions: list[Submission], most: int) -> None:
        """Add these jobs and their retries, up to the count."""
        while submissions and len(self.jobs) < most:
            one = submissions.pop()
            if one.at_ms > self._now_ms:
                self.due.append((listing, one))
                continue
            run, again = self._users.live(self._rng, one)
            self.jobs.append(PastJob(one.at_ms, listing, one.profile.job_type, run))
            if again is not None:
                submissions.append(again)
