"""
The simulated world: jobs that arrive, run, end and run again, advanced to a given time.

Pure: it reads no clock. All future events are in one heap, ordered by time. So the same seed and start give
the same world at the same instant, however often it was advanced before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from random import Random

from exporter.model import is_failed
from exporter.simulator.account import Account
from exporter.simulator.arrivals import HISTORY_MS, Arrivals, Seasons, Submission, Users
from exporter.simulator.history import HabitualHistory, past_jobs, write_history
from exporter.simulator.lifecycle import (
    DELETED_AFTER_MS,
    EventKind,
    Incidents,
    RunPlan,
    at_pace,
    draw_code,
    draw_fate,
    plan_soon,
)
from exporter.simulator.profiles import (
    DAY_MS,
    MINUTE_MS,
    PROFILE_SETS,
    STEADY,
    Profile,
    invented,
    known_messages,
)
from exporter.simulator.settings import SimulatorSettings
from exporter.simulator.specs import Specs
from exporter.simulator.table import NOT_LISTED, Listing, RecentChanges, Table


class World:
    """
    All jobs of all listings.

    Shape: `table` has every job, `specs` what each asks for, `listings` the listed jobs of each (project,
    workspace), and `account` counts their starts and ends; `changes`, once it is set, records their changes.
    Units: Unix milliseconds UTC.
    """

    def __init__(self, settings: SimulatorSettings, start_ms: int) -> None:
        self.now_ms = start_ms
        self.table = Table()
        self.specs = Specs(self.table.types, settings.seed)
        self.account = Account(self.table, self.specs)
        self.listings = [Listing(p, w) for p in settings.projects for w in settings.workspaces]
        self.messages = known_messages()
        self.changes: RecentChanges | None = None
        profiles = PROFILE_SETS[settings.profile]
        self._profiles = {profile.job_type: profile for profile in profiles}
        self._start_ms = start_ms
        self._reopening = settings.reopening
        self._pace = settings.pace
        self._rng = Random(settings.seed)
        # The time, the number of the job, timetable or submission, and the kind of event.
        self._events: list[tuple[int, int, EventKind]] = []
        self._runs: dict[int, RunPlan] = {}
        # Submissions that are due later, with their listings, by a sequence number.
        self._due: dict[int, tuple[int, Submission]] = {}
        self._due_so_far = 0
        self.incidents = Incidents()

        # If the history has more jobs per day, arrivals continue at that rate: no break at the start.
        history_per_day = settings.jobs * DAY_MS / HISTORY_MS
        jobs_per_day = max(settings.jobs_per_day, history_per_day) if settings.jobs_per_day else 0.0
        self._users = self._gather_users(profiles, settings.seed, jobs_per_day or history_per_day)
        self._crons = [
            (profile, cron) for profile in profiles for cron in profile.habits.crons if jobs_per_day
        ]
        self._arrivals = Arrivals(profiles, jobs_per_day, self._users)
        self._live_through_history(profiles, settings.jobs)

    def advance(self, now_ms: int) -> None:
        """Let everything happen that is due by then. Time never goes back."""
        while self._events and self._events[0][0] <= now_ms:
            at_ms, number, event = heappop(self._events)
            self._happen(at_ms, number, event)
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
        spec: str | None = None,
    ) -> list[int]:
        """
        Create jobs now that reach `outcome` within seconds, or that run like all others if it is None.

        Undocumented types and outcomes are accepted; an undocumented outcome ends the run only with `ends`.
        They have the resource spec `spec` ("": none), or one of their type if it is None.
        Return the numbers of the jobs.
        """
        profile = self._profiles.setdefault(job_type, invented(job_type))
        job_ids = []
        for _ in range(count):
            if outcome is None:
                job_id = self._submit(listing, self._users.single(profile, self.now_ms))
            else:
                job_id = self._append(listing, profile, self.now_ms)
                self._begin(job_id, plan_soon(self._rng, profile, self.now_ms, outcome, msg_code, ends))
            if spec is not None:
                self.specs.order(job_id, spec)
            job_ids.append(job_id)
        return job_ids

    def insert_one(self, listing: int) -> None:
        profile = self._arrivals.profile_at(self._rng, self.now_ms)
        self._submit(listing, self._users.single(profile, self.now_ms))

    def delete_one(self, listing: int) -> None:
        """Delete a job that ended more than a day ago, if a few random draws find one."""
        ids = self.listings[listing].all_ids
        # A few draws instead of a search through a million jobs. If all miss, nothing is deleted this time.
        for _ in range(50 if ids else 0):
            job_id = self._rng.choice(ids)
            ended_ms = self.table.ended_ms[job_id - 1]
            if ended_ms and ended_ms + DELETED_AFTER_MS <= self.now_ms:
                with self._recorded(job_id):
                    self._delete(job_id)
                return

    def _gather_users(self, profiles: tuple[Profile, ...], seed: int, jobs_per_day: float) -> Users:
        mean = jobs_per_day / sum(profile.share for profile in profiles)
        per_day = {profile.job_type: mean * profile.share for profile in profiles}
        if all(profile.habits == STEADY for profile in profiles):
            return Users(per_day, None)
        first_ms = {
            one.job_type: self._at_pace(self._start_ms + int(one.habits.first_day * DAY_MS), self._start_ms)
            for one in profiles
            if one.habits.first_day is not None
        }
        return Users(per_day, Seasons(profiles, seed, self._start_ms - HISTORY_MS, first_ms))

    def _live_through_history(self, profiles: tuple[Profile, ...], jobs: int) -> None:
        """Create the past: write the runs that have ended, and play the others from their start."""
        table, rng, listings = self.table, self._rng, len(self.listings)
        if self._users.seasons is None:
            created_ms = self._arrivals.history(rng, jobs, self.now_ms)
            drawn = past_jobs(self._arrivals, rng, created_ms, listings)
            running = write_history(table, created_ms, drawn, self.now_ms)
        else:
            history = HabitualHistory(self._users, rng, listings, self.now_ms)
            history.fill(self._arrivals, profiles, jobs)
            running = write_history(table, history.created_ms, history.jobs, self.now_ms)
            for listing, submission in history.due:
                self._await_submission(listing, submission, self._start_ms)
        columns = zip(table.listing, table.job_type, table.status, table.ended_ms, strict=True)
        for job_id, (listing, job_type, status, ended_ms) in enumerate(columns, 1):
            self.listings[listing].append(job_id, job_type, status)
            if ended_ms:
                self._await_fate(job_id, ended_ms)
        self.account.note_history()
        for job_id, run in running.items():
            self._begin(job_id, run.at_pace(self._start_ms, self._pace))
        self.advance(self.now_ms)
        self.account.end_history()

        self._await_arrival(self.now_ms)
        for number, (_, cron) in enumerate(self._crons):
            minute_ms = cron.minute * MINUTE_MS
            # The next time that this minute of a day comes.
            at_ms = (self._start_ms - minute_ms) // DAY_MS * DAY_MS + DAY_MS + minute_ms
            heappush(self._events, (self._at_pace(at_ms, self._start_ms), number, EventKind.CRON))

    def _happen(self, at_ms: int, number: int, event: EventKind) -> None:
        """Let one event happen; `number` is a job, except for timetables and submissions."""
        if event is EventKind.ARRIVAL:
            listing = self._rng.randrange(len(self.listings))
            profile = self._arrivals.profile_at(self._rng, at_ms)
            now, *later = self._users.submit(self._rng, profile, at_ms)
            for submission in later:
                self._await_submission(listing, submission, at_ms)
            self._submit(listing, now)
            self._await_arrival(at_ms)
        elif event is EventKind.CRON:
            profile, cron = self._crons[number]
            if self._users.have_introduced(profile, at_ms):
                listing = self._rng.randrange(len(self.listings))
                for submission in self._users.scheduled(self._rng, profile, cron, at_ms):
                    self._await_submission(listing, submission, at_ms)
            heappush(self._events, (self._at_pace(at_ms + DAY_MS, at_ms), number, EventKind.CRON))
        elif event is EventKind.SUBMISSION:
            self._submit(*self._due.pop(number))
        elif event is EventKind.STEP:
            with self._recorded(number):
                self._step(at_ms, number)
        # A job may have been deleted since this was planned.
        elif self.table.listed[number - 1]:
            with self._recorded(number):
                self._after_end(at_ms, number, event)

    def _after_end(self, at_ms: int, job_id: int, event: EventKind) -> None:
        """Touch, reopen or delete a job whose run has ended."""
        if event is EventKind.TOUCHED:
            self.table.touch(job_id, at_ms)
            self._await_fate(job_id, at_ms)
        elif event is EventKind.REOPENED:
            # The row loses the times and the code of the run that has ended.
            table, row = self.table, job_id - 1
            table.submitted_ms[row] = at_ms
            table.started_ms[row] = table.ended_ms[row] = table.msg_code[row] = 0
            self._enter(job_id, "QUEUING", at_ms)
            profile = self._profiles[table.types[table.job_type[row]]]
            self._run(job_id, self._users.single(profile, at_ms))
        else:
            self._delete(job_id)

    @contextmanager
    def _recorded(self, job_id: int) -> Iterator[None]:
        """Record the change that the job goes through within this context."""
        if self.changes is None:
            yield
            return
        before = self.table.cells(job_id)
        yield
        self.changes.record(job_id, before)

    def _await_arrival(self, after_ms: int) -> None:
        at_ms = self._arrivals.next_ms(self._rng, after_ms)
        if at_ms is not None:
            heappush(self._events, (self._at_pace(at_ms, after_ms), 0, EventKind.ARRIVAL))

    def _await_submission(self, listing: int, submission: Submission, after_ms: int) -> None:
        """Create the job when it is due, at the pace of this world."""
        due = submission._replace(at_ms=self._at_pace(submission.at_ms, after_ms))
        # A job reopened before the start may lead to a retry before it. The history is complete: drop it.
        if due.at_ms < self._start_ms:
            return
        self._due_so_far += 1
        self._due[self._due_so_far] = listing, due
        heappush(self._events, (due.at_ms, self._due_so_far, EventKind.SUBMISSION))

    def _submit(self, listing: int, submission: Submission) -> int:
        job_id = self._append(listing, submission.profile, submission.at_ms)
        self._run(job_id, submission)
        return job_id

    def _append(self, listing: int, profile: Profile, created_ms: int) -> int:
        job_type = self.table.types.number(profile.job_type)
        job_id = self.table.append(listing, job_type, created_ms)
        self.listings[listing].append(job_id, job_type, self.table.status[job_id - 1])
        if self.changes is not None:
            self.changes.record(job_id, NOT_LISTED)
        return job_id

    def _begin(self, job_id: int, run: RunPlan) -> None:
        """Schedule the run's next step, if there is one."""
        if run.next_ms is not None:
            self._runs[job_id] = run
            heappush(self._events, (run.next_ms, job_id, EventKind.STEP))

    def _run(self, job_id: int, submission: Submission) -> None:
        """Begin a run that is queued now, at the pace of this world."""
        run, again = self._users.live(self._rng, submission)
        since_ms = max(submission.at_ms, self._start_ms)
        self._begin(job_id, run.at_pace(since_ms, self._pace))
        if again is not None:
            self._await_submission(self.table.listing[job_id - 1], again, since_ms)

    def _at_pace(self, at_ms: int, after_ms: int) -> int:
        """Return when something happens at the pace of this world. The pace does not apply to the history."""
        return at_pace(at_ms, max(after_ms, self._start_ms), self._pace)

    def _step(self, at_ms: int, job_id: int) -> None:
        """Take the run's next step, or let an incident make it fail instead."""
        run, table, row = self._runs.pop(job_id), self.table, job_id - 1
        listing, job_type = table.listing[row], table.types[table.job_type[row]]
        leaves = table.statuses[table.status[row]]
        incident = self.incidents.hitting(self._rng, listing, job_type, leaves, run.next_status, at_ms)
        if incident is not None:
            profile, code, was_to_fail = self._profiles[job_type], incident.msg_code, is_failed(run.last)
            if code is None:
                code = draw_code(self._rng, profile.causes.get(incident.outcome, ()))
            times_ms = run.times_ms[: run.taken + 1]
            run = run._replace(times_ms=times_ms, last=incident.outcome, msg_code=code, ends=True)
            # A run that was planned to fail has its retry already.
            again = None if was_to_fail else self._users.retry(self._rng, profile, run)
            if again is not None:
                self._await_submission(listing, again, at_ms)
        self._enter(job_id, run.next_status, at_ms)
        run = run._replace(taken=run.taken + 1)
        if run.next_ms is not None or not run.ends:
            self._begin(job_id, run)
            return
        table.ended_ms[row] = at_ms
        table.msg_code[row] = run.msg_code
        self.account.note_end(job_id, at_ms)
        self._await_fate(job_id, at_ms)

    def _enter(self, job_id: int, status: str, at_ms: int) -> None:
        table, row = self.table, job_id - 1
        old, new = table.status[row], table.statuses.number(status)
        self.listings[table.listing[row]].move(job_id, table.job_type[row], old, new)
        table.status[row] = new
        table.touch(job_id, at_ms)
        if status == "RUNNING":
            table.started_ms[row] = at_ms
            self.account.note_start(job_id, at_ms)

    def _await_fate(self, job_id: int, at_ms: int) -> None:
        fate = draw_fate(self._rng, at_ms)
        if fate is None or (fate[1] is EventKind.REOPENED and not self._reopening):
            return
        # A job that is listed at the start was not deleted before it.
        if fate[0] > self._start_ms or fate[1] is not EventKind.DELETED:
            heappush(self._events, (self._at_pace(fate[0], at_ms), job_id, fate[1]))

    def _delete(self, job_id: int) -> None:
        table, row = self.table, job_id - 1
        table.listed[row] = 0
        self.listings[table.listing[row]].remove(job_id, table.job_type[row], table.status[row])
