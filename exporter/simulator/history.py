"""
Fill the table with the jobs of the past, a million of them in seconds.

Pure. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from operator import itemgetter
from random import Random
from typing import NamedTuple

from exporter.simulator.arrivals import HISTORY_MS, Arrivals
from exporter.simulator.lives import Run, plan_run
from exporter.simulator.profiles import Cron, Profile
from exporter.simulator.seasons import DAY_MS
from exporter.simulator.submissions import MINUTE_MS, Submission, Users
from exporter.simulator.table import Table


def fill_history(
    table: Table, arrivals: Arrivals, rng: Random, created_ms: array[int], listings: int, now_ms: int
) -> dict[int, Run]:
    """
    Append a job for every creation time, each by itself; return the runs that are not over now, none begun.

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


class Lived(NamedTuple):
    """A job of the past, with its run from the beginning to the end."""

    created_ms: int
    listing: int
    job_type: str
    run: Run


class Crowd:
    """
    The jobs of the past where users have habits: batches, timetables, and failed jobs that are run again.

    Shape: `lived` are jobs created by now, in no order; `due` are submissions of theirs that come later, with
    their listings.
    """

    def __init__(self, users: Users, rng: Random, listings: int, now_ms: int) -> None:
        self.lived: list[Lived] = []
        self.due: list[tuple[int, Submission]] = []
        self._users = users
        self._rng = rng
        self._listings = listings
        self._now_ms = now_ms

    def fill(self, arrivals: Arrivals, profiles: tuple[Profile, ...], count: int) -> None:
        """
        Draw `count` jobs of the last 30 days.

        A quarter is spread over all of them, beginning with what timetables submit one by one, so that seldom
        types are there. The others came at the rate at which jobs go on arriving.
        """
        seldom = [(one, cron) for one in profiles for cron in one.habits.crons if cron.jobs]
        nightly = [(one, cron) for one in profiles for cron in one.habits.crons if not cron.jobs]
        recent_ms = arrivals.recent_ms(count)
        self._add_all(self._scheduled(seldom, HISTORY_MS), count // 4)
        self._add_all(self._submitted(arrivals, HISTORY_MS), count // 4)
        self._add_all(self._scheduled(nightly, recent_ms), count)
        self._add_all(self._submitted(arrivals, recent_ms), count)

    def _submitted(self, arrivals: Arrivals, span_ms: float) -> Iterator[list[Submission]]:
        while True:
            at_ms = arrivals.past_ms(self._rng, self._now_ms, span_ms)
            yield self._users.submit(self._rng, arrivals.profile_at(self._rng, at_ms), at_ms)

    def _scheduled(self, crons: list[tuple[Profile, Cron]], span_ms: float) -> Iterator[list[Submission]]:
        """Yield what timetables submitted, the newest first."""
        today_ms = self._now_ms // DAY_MS * DAY_MS
        times = (
            (day_ms + cron.minute * MINUTE_MS, profile, cron)
            for day_ms in range(today_ms, int(self._now_ms - span_ms) - DAY_MS, -DAY_MS)
            for profile, cron in crons
        )
        for at_ms, profile, cron in times:
            if self._now_ms - span_ms < at_ms <= self._now_ms and self._users.is_there(profile, at_ms):
                yield self._users.scheduled(self._rng, profile, cron, at_ms)

    def _add_all(self, submitted: Iterable[list[Submission]], most: int) -> None:
        if len(self.lived) >= most:
            return
        for submissions in submitted:
            self._add(int(self._rng.random() * self._listings), submissions, most)
            if len(self.lived) >= most:
                return

    def _add(self, listing: int, submissions: list[Submission], most: int) -> None:
        """Let these jobs live, and their retries, as long as there are not too many."""
        while submissions and len(self.lived) < most:
            one = submissions.pop()
            if one.at_ms > self._now_ms:
                self.due.append((listing, one))
                continue
            run, again = self._users.live(self._rng, one)
            self.lived.append(Lived(one.at_ms, listing, one.profile.job_type, run))
            if again is not None:
                submissions.append(again)


def write_history(table: Table, lived: list[Lived], now_ms: int) -> dict[int, Run]:
    """Append these jobs in the order of their creation; return the runs that are not over now, none begun."""
    lived.sort(key=itemgetter(0))
    table.extend(array("q", map(itemgetter(0), lived)))
    running: dict[int, Run] = {}
    for row, (_, listing, job_type, run) in enumerate(lived):
        table.job_type[row] = table.types.number(job_type)
        table.listing[row] = listing
        if run.times_ms[-1] <= now_ms:
            _write_down(table, row, run)
        else:
            running[row + 1] = run
    table.last_update_ms = max(table.updated_ms, default=0)
    return running
