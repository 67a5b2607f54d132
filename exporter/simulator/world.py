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

from exporter.model import is_failed
from exporter.simulator.account import Account
from exporter.simulator.arrivals import HISTORY_MS, Arrivals
from exporter.simulator.history import Crowd, fill_history, write_history
from exporter.simulator.incidents import Incident, Incidents
from exporter.simulator.listing import Listing
from exporter.simulator.lives import DELETED_AFTER_MS, Event, Run, draw_code, draw_fate, plan_soon, sooner
from exporter.simulator.past import Past
from exporter.simulator.profiles import PROFILE_SETS, STEADY, Profile, invented, known_messages
from exporter.simulator.seasons import DAY_MS, Seasons
from exporter.simulator.settings import SimulatorSettings
from exporter.simulator.submissions import MINUTE_MS, Submission, Users
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
        self._profiles = {profile.job_type: profile for profile in PROFILE_SETS[settings.profile]}
        self._start_ms = start_ms
        self._reopening = settings.reopening
        self._pace = settings.pace
        self._rng = Random(settings.seed)
        self._events: list[tuple[int, int, Event]] = []
        self._runs: dict[int, Run] = {}
        # Submissions that are due later, by a number each, with their listings.
        self._due: dict[int, tuple[int, Submission]] = {}
        self._due_so_far = 0
        self._incidents = Incidents()
        self._users = self._gather_users(settings)
        profiles, jobs_per_day = PROFILE_SETS[settings.profile], _jobs_per_day(settings)
        self._crons = [
            (profile, cron) for profile in profiles for cron in profile.habits.crons if jobs_per_day
        ]
        self._arrivals = Arrivals(profiles, jobs_per_day, self._users)
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
        self._create(listing, self._arrivals.profile_at(self._rng, self.now_ms), self.now_ms)

    def begin_incident(self, incident: Incident) -> None:
        """Let runs fail from now on."""
        self._incidents.begin(incident)

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

    def _gather_users(self, settings: SimulatorSettings) -> Users:
        profiles = PROFILE_SETS[settings.profile]
        jobs_per_day = _jobs_per_day(settings) or settings.jobs * DAY_MS / HISTORY_MS
        mean = jobs_per_day / sum(profile.share for profile in profiles)
        first_ms = {
            one.job_type: self._sooner(self._start_ms + int(one.habits.first_day * DAY_MS), self._start_ms)
            for one in profiles
            if one.habits.first_day is not None
        }
        is_steady = all(profile.habits == STEADY for profile in profiles)
        seasons = Seasons(profiles, settings.seed, self._start_ms - HISTORY_MS, first_ms)
        per_day = {profile.job_type: mean * profile.share for profile in profiles}
        return Users(per_day, None if is_steady else seasons)

    def _live_through_history(self, jobs: int) -> None:
        """Fill the past: what is over by now is written down at once, the rest happens as it would have."""
        for job_id, run in self._fill_history(jobs).items():
            self._begin(job_id, run.sooner(self._start_ms, self._pace))
        self.advance(self.now_ms)
        self.account.end_history()
        self._await_arrival(self.now_ms)
        for number, (_, cron) in enumerate(self._crons):
            minute_ms = cron.minute * MINUTE_MS
            at_ms = (self._start_ms - minute_ms) // DAY_MS * DAY_MS + DAY_MS + minute_ms
            heappush(self._events, (self._sooner(at_ms, self._start_ms), number, Event.CRON))

    def _fill_history(self, jobs: int) -> dict[int, Run]:
        listings = len(self.listings)
        if self._users.seasons is None:
            created_ms = self._arrivals.history(self._rng, jobs, self.now_ms)
            running = fill_history(self.table, self._arrivals, self._rng, created_ms, listings, self.now_ms)
        else:
            crowd = Crowd(self._users, self._rng, listings, self.now_ms)
            crowd.fill(self._arrivals, tuple(self._profiles.values()), jobs)
            running = write_history(self.table, crowd.lived, self.now_ms)
            for listing, submission in crowd.due:
                self._await_submission(listing, submission, self._start_ms)
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
        elif event is Event.CRON:
            self._follow_timetable(at_ms, job_id)
        elif event is Event.SUBMISSION:
            self._submit(*self._due.pop(job_id))
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
        profile = self._arrivals.profile_at(self._rng, at_ms)
        now, *later = self._users.submit(self._rng, profile, at_ms)
        for submission in later:
            self._await_submission(listing, submission, at_ms)
        self._submit(listing, now)

    def _follow_timetable(self, at_ms: int, number: int) -> None:
        profile, cron = self._crons[number]
        if self._users.is_there(profile, at_ms):
            listing = self._rng.randrange(len(self.listings))
            for submission in self._users.scheduled(self._rng, profile, cron, at_ms):
                self._await_submission(listing, submission, at_ms)
        heappush(self._events, (self._sooner(at_ms + DAY_MS, at_ms), number, Event.CRON))

    def _await_submission(self, listing: int, submission: Submission, after_ms: int) -> None:
        """Create the job when it is due, at the pace of this world."""
        due = submission._replace(at_ms=self._sooner(submission.at_ms, after_ms))
        # The history is complete: what a run that was reopened in the past leads to comes too late for it.
        if due.at_ms < self._start_ms:
            return
        self._due_so_far += 1
        self._due[self._due_so_far] = listing, due
        heappush(self._events, (due.at_ms, self._due_so_far, Event.SUBMISSION))

    def _submit(self, listing: int, submission: Submission) -> None:
        self._run(self._append(listing, submission.profile, submission.at_ms), submission)

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
            self._run(job_id, self._users.single(profile, at_ms))
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

    def _run(self, job_id: int, submission: Submission) -> None:
        """Begin a run that is queued now, at the pace of this world."""
        run, again = self._users.live(self._rng, submission)
        since_ms = max(submission.at_ms, self._start_ms)
        self._begin(job_id, run.sooner(since_ms, self._pace))
        if again is not None:
            self._await_submission(self.table.listing[job_id - 1], again, since_ms)

    def _sooner(self, at_ms: int, after_ms: int) -> int:
        """Give when something happens at the pace of this world, of which the past knows nothing."""
        return sooner(at_ms, max(after_ms, self._start_ms), self._pace)

    def _step(self, at_ms: int, job_id: int) -> None:
        run = self._struck(at_ms, job_id, self._runs.pop(job_id))
        status = run.next_status
        is_over = run.is_ended_by_next
        self._enter(job_id, status, at_ms)
        if is_over:
            self._end(job_id, at_ms, run.msg_code)
        else:
            self._begin(job_id, run._replace(taken=run.taken + 1))

    def _struck(self, at_ms: int, job_id: int, run: Run) -> Run:
        """Let the run fail now if an incident wants it, and perhaps be retried."""
        table, row = self.table, job_id - 1
        listing, job_type = table.listing[row], table.types[table.job_type[row]]
        leaves = table.statuses[table.status[row]]
        incident = self._incidents.striking(self._rng, listing, job_type, leaves, run.next_status, at_ms)
        if incident is None:
            return run
        profile = self._profiles[job_type]
        code = incident.msg_code
        if code is None:
            code = draw_code(self._rng, profile.causes.get(incident.outcome, ()))
        failing = run.failing(incident.outcome, code)
        # One that was to fail later has its retry already.
        again = None if is_failed(run.last) else self._users.retry(self._rng, profile, failing)
        if again is not None:
            self._await_submission(listing, again, at_ms)
        return failing

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
        profile = self._profiles[table.types[table.job_type[row]]]
        self._run(job_id, self._users.single(profile, at_ms))

    def _delete(self, job_id: int) -> None:
        table, row = self.table, job_id - 1
        table.listed[row] = 0
        self.listings[table.listing[row]].remove(job_id, table.job_type[row], table.status[row])


def _jobs_per_day(settings: SimulatorSettings) -> float:
    """Return the rate of arrivals: that of the history where it is the denser, so that none ends abruptly."""
    if not settings.jobs_per_day:
        return 0.0
    return max(settings.jobs_per_day, settings.jobs * DAY_MS / HISTORY_MS)
