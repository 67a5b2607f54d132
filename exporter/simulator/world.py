"""
The simulated world: jobs that arrive, run, end and come back, moved on to whatever time it is told.

Pure: it reads no clock. All that will happen stands in one heap in the order of time, so that the same seed
and start give the same world at the same instant, however often somebody looked in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from random import Random

from exporter.simulator.account import Account
from exporter.simulator.arrivals import DAY_MS, HISTORY_MS, Arrivals
from exporter.simulator.history import fill_history
from exporter.simulator.listing import Listing
from exporter.simulator.lives import DELETED_AFTER_MS, Event, Run, draw_fate, plan_run, plan_soon, sooner
from exporter.simulator.past import Past
from exporter.simulator.profiles import PROFILES, Profile, invented, known_messages
from exporter.simulator.settings import SimulatorSettings
from exporter.simulator.table import NOT_LISTED, Table


class World:
    """
    All jobs of all listings.

    Shape: `table` holds every job, `listings` what is listed per (project, workspace), `account` what ended;
    `past` takes down the changes, once there is one.
    Units: Unix milliseconds UTC.
    """

    def __init__(self, settings: SimulatorSettings, start_ms: int) -> None:
        self.now_ms = start_ms
        self.table = Table()
        self.account = Account(self.table)
        self.listings = [Listing(p, w) for p in settings.projects for w in settings.workspaces]
        self.messages = known_messages()
        self.past: Past | None = None
        self._profiles = {profile.job_type: profile for profile in PROFILES}
        self._start_ms = start_ms
        self._reopening = settings.reopening
        self._pace = settings.pace
        self._rng = Random(settings.seed)
        self._events: list[tuple[int, int, Event]] = []
        self._runs: dict[int, Run] = {}
        self._arrivals = Arrivals(PROFILES, _jobs_per_day(settings))
        self._live_through_history(settings.jobs)

    def advance(self, now_ms: int) -> None:
        """Let everything happen that is due by then. Time never goes back."""
        while self._events and self._events[0][0] <= now_ms:
            at_ms, job_id, event = heappop(self._events)
            self._happen(at_ms, job_id, event)
        self.now_ms = max(self.now_ms, now_ms)

    def find_listing(self, project_id: str, workspace_id: str) -> int | None:
        """Return the number of a listing, or None where there is no such project and workspace."""
        for number, listing in enumerate(self.listings):
            if (listing.project_id, listing.workspace_id) == (project_id, workspace_id):
                return number
        return None

    def inject(
        self,
        listing: int,
        job_type: str,
        count: int,
        outcome: str | None,
        msg_code: int | None,
        ends: bool = False,
    ) -> list[int]:
        """
        Create jobs now that come to `outcome` within seconds, or live as any other where it is None.

        A type the documentation does not know is taken as it is, and so is an outcome, which ends the run
        with `ends` only. Return the numbers of the jobs.
        """
        profile = self._profiles.setdefault(job_type, invented(job_type))
        return [self._create(listing, profile, self.now_ms, outcome, msg_code, ends) for _ in range(count)]

    def insert_one(self, listing: int) -> None:
        """Let a job arrive right now, out of turn."""
        self._arrive(self.now_ms, listing)

    def delete_one(self, listing: int) -> None:
        """Delete a job that ended more than a day ago, if one is soon found."""
        ids = self.listings[listing].all_ids
        for _ in range(50 if ids else 0):
            job_id = self._rng.choice(ids)
            ended_ms = self.table.ended_ms[job_id - 1]
            if ended_ms and ended_ms + DELETED_AFTER_MS <= self.now_ms:
                with self._taken_down(job_id):
                    self._delete(job_id)
                return

    def _live_through_history(self, jobs: int) -> None:
        """Fill the past: what is over by now is written down at once, the rest happens as it would have."""
        for job_id, run in self._fill_history(jobs).items():
            self._begin(job_id, run.sooner(self._start_ms, self._pace))
        self.advance(self.now_ms)
        self.account.end_history()
        self._await_arrival(self.now_ms)

    def _fill_history(self, jobs: int) -> dict[int, Run]:
        created_ms = self._arrivals.history(self._rng, jobs, self.now_ms)
        listings = len(self.listings)
        running = fill_history(self.table, self._arrivals, self._rng, created_ms, listings, self.now_ms)
        self._list_history()
        self.account.note_history()
        return running

    def _list_history(self) -> None:
        table = self.table
        columns = zip(table.listing, table.job_type, table.status, table.ended_ms, strict=True)
        for job_id, (listing, job_type, status, ended_ms) in enumerate(columns, 1):
            self.listings[listing].append(job_id, job_type, status)
            if ended_ms:
                self._await_fate(job_id, ended_ms)

    def _happen(self, at_ms: int, job_id: int, event: Event) -> None:
        if event is Event.ARRIVAL:
            self._arrive(at_ms, self._rng.randrange(len(self.listings)))
            self._await_arrival(at_ms)
        elif event is Event.STEP:
            with self._taken_down(job_id):
                self._step(at_ms, job_id)
        elif self.table.listed[job_id - 1]:
            with self._taken_down(job_id):
                self._befall(at_ms, job_id, event)

    @contextmanager
    def _taken_down(self, job_id: int) -> Iterator[None]:
        """Take down what the job was before this change."""
        if self.past is None:
            yield
            return
        before = self.table.cells(job_id)
        yield
        self.past.note(job_id, before)

    def _befall(self, at_ms: int, job_id: int, event: Event) -> None:
        if event is Event.TOUCHED:
            self.table.touch(job_id, at_ms)
            self._await_fate(job_id, at_ms)
        elif event is Event.REOPENED:
            self._reopen(job_id, at_ms)
        else:
            self._delete(job_id)

    def _await_arrival(self, after_ms: int) -> None:
        at_ms = self._arrivals.next_ms(self._rng, after_ms)
        if at_ms is not None:
            heappush(self._events, (self._sooner(at_ms, after_ms), 0, Event.ARRIVAL))

    def _arrive(self, at_ms: int, listing: int) -> None:
        self._create(listing, self._arrivals.profile_at(self._rng, at_ms), at_ms)

    def _create(
        self,
        listing: int,
        profile: Profile,
        at_ms: int,
        outcome: str | None = None,
        msg_code: int | None = None,
        ends: bool = False,
    ) -> int:
        job_id = self._append(listing, profile, at_ms)
        if outcome is None:
            self._begin(job_id, self._plan(profile, at_ms))
        else:
            self._begin(job_id, plan_soon(self._rng, profile, at_ms, outcome, msg_code, ends))
        return job_id

    def _append(self, listing: int, profile: Profile, created_ms: int) -> int:
        job_type = self.table.types.number(profile.job_type)
        job_id = self.table.append(listing, job_type, created_ms)
        self.listings[listing].append(job_id, job_type, self.table.status[job_id - 1])
        if self.past is not None:
            self.past.note(job_id, NOT_LISTED)
        return job_id

    def _begin(self, job_id: int, run: Run) -> None:
        """Wait for the run's next step, if there is one."""
        if run.next_ms is not None:
            self._runs[job_id] = run
            heappush(self._events, (run.next_ms, job_id, Event.STEP))

    def _plan(self, profile: Profile, at_ms: int) -> Run:
        """Plan a run that is queued now, at the pace of this world."""
        return plan_run(self._rng, profile, at_ms).sooner(max(at_ms, self._start_ms), self._pace)

    def _sooner(self, at_ms: int, after_ms: int) -> int:
        """Give when something happens at the pace of this world, of which the past knows nothing."""
        return sooner(at_ms, max(after_ms, self._start_ms), self._pace)

    def _step(self, at_ms: int, job_id: int) -> None:
        run = self._runs.pop(job_id)
        status = run.next_status
        is_over = run.is_ended_by_next
        self._enter(job_id, status, at_ms)
        if is_over:
            self._end(job_id, at_ms, run.msg_code)
        else:
            self._begin(job_id, run._replace(taken=run.taken + 1))

    def _enter(self, job_id: int, status: str, at_ms: int) -> None:
        table, row = self.table, job_id - 1
        old, new = table.status[row], table.statuses.number(status)
        self.listings[table.listing[row]].move(job_id, table.job_type[row], old, new)
        table.status[row] = new
        table.touch(job_id, at_ms)
        if status == "RUNNING":
            table.started_ms[row] = at_ms
            self.account.note_start(job_id, at_ms)

    def _end(self, job_id: int, at_ms: int, msg_code: int) -> None:
        self.table.ended_ms[job_id - 1] = at_ms
        self.table.msg_code[job_id - 1] = msg_code
        self.account.note_end(job_id, at_ms)
        self._await_fate(job_id, at_ms)

    def _await_fate(self, job_id: int, at_ms: int) -> None:
        fate = draw_fate(self._rng, at_ms)
        if fate and fate[1] is Event.REOPENED and not self._reopening:
            return
        # What is listed at the start was, evidently, not deleted before.
        if fate and (fate[0] > self._start_ms or fate[1] is not Event.DELETED):
            heappush(self._events, (self._sooner(fate[0], at_ms), job_id, fate[1]))

    def _reopen(self, job_id: int, at_ms: int) -> None:
        """Send the job back to its queue; its row forgets the run that is over."""
        table, row = self.table, job_id - 1
        table.submitted_ms[row] = at_ms
        table.started_ms[row] = table.ended_ms[row] = table.msg_code[row] = 0
        self._enter(job_id, "QUEUING", at_ms)
        self._begin(job_id, self._plan(self._profiles[table.types[table.job_type[row]]], at_ms))

    def _delete(self, job_id: int) -> None:
        table, row = self.table, job_id - 1
        table.listed[row] = 0
        self.listings[table.listing[row]].remove(job_id, table.job_type[row], table.status[row])


def _jobs_per_day(settings: SimulatorSettings) -> float:
    """Return the rate of arrivals: that of the history where it is the denser, so that none ends abruptly."""
    if not settings.jobs_per_day:
        return 0.0
    return max(settings.jobs_per_day, settings.jobs * DAY_MS / HISTORY_MS)
