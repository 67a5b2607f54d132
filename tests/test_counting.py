"""Any interleaving of lives, polls, failures and restarts counts each run once."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    rule,
)

from exporter.errors import ApiUnavailable, PollError
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import TERMINAL_STATUSES, Job, Totals, is_failed
from exporter.octopus.wire import ListQuery
from exporter.sync.poll import Poll
from tests.fake_api import FULL_SYNC_MS, FakeApi, a_target, poll_rules
from tests.held import release_held

# The API may invent a status; with an end time it ends a run.
ENDS = (*TERMINAL_STATUSES, "ARCHIVED", "EXPORT_FAILED")
TYPES = ("FRAME_EXTRACT", "SCENARIO_TO_SIM", "INVENTED_LATER")
# Thousandths of a core, of a GPU and of a GiB; what cannot be read adds nothing.
SPECS = {
    "": (0, 0, 0),
    "2Core_4GiB": (2000, 0, 4000),
    "P100_1Gpu_2.1Core_4.1GiB": (2100, 1000, 4100),
    "2Corex_4GiB": (0, 0, 0),
    "other": (0, 0, 0),
    "4Core_16GiB": (4000, 0, 16_000),
    "1Core_1GiB": (1000, 0, 1000),
}
MINUTE_MS = 60_000
LOOKBACK_MS = 40 * MINUTE_MS


class Counting(RuleBasedStateMachine):
    """
    Jobs live, the exporter polls, fails, dies and starts again.

    The only limit on their lives is that a poll could have seen each run: a job is reopened or deleted only
    after a poll since its end, and one created before the lookback ends only after a poll that saw it run,
    in a documented status.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.target = a_target()
        self.api = FakeApi()
        self.totals: Totals | None = None
        self.ended: Counter[tuple[str, str]] = Counter()
        self.started: Counter[str] = Counter()
        self.created: Counter[str] = Counter()
        self.running_ms = 0
        self.used: Counter[tuple[str, str, str]] = Counter()  # by family, job type, status
        self.runs_again: Counter[str] = Counter()
        self.reopened: set[int] = set()
        self.ever_reopened: set[int] = set()
        self.most_specs = 2
        self.highest_most_specs = 2
        self.seen_ended: set[int] = set()
        self.seen_in_flight: set[int] = set()
        self.reruns: set[int] = set()
        self.next_id = 1
        self.moves: list[str] = []
        self.open()

    def open(self) -> None:
        path = Path(self.folder.name) / "ledger.db"
        self.ledger = self.runner.run(SqliteLedger.open(path))

    def teardown(self) -> None:
        try:
            self.full_sync()
        finally:
            self.runner.run(self.ledger.close())
            self.runner.close()
            self.folder.cleanup()

    # -- lives -------------------------------------------------------------------------------------------

    def change(self, job: Job, **fields: object) -> None:
        self.api.put(msgspec.structs.replace(job, updated_ms=self.tick(), **fields))

    def tick(self, ms: int = 1) -> int:
        self.api.now_ms += ms
        return self.api.now_ms

    def in_lookback(self, job: Job) -> bool:
        return job.created_ms >= self.api.now_ms - LOOKBACK_MS

    @property
    def counts(self) -> bool:
        return self.totals is not None

    def some(self, data: st.DataObject, *statuses: str, seen: bool = False) -> Job | None:
        fits = [
            job
            for job in self.api.jobs.values()
            if job.status in statuses and (not seen or job.id in self.seen_ended)
        ]
        return data.draw(st.sampled_from(fits)) if fits else None

    @rule(kind=st.sampled_from(TYPES))
    def create(self, kind: str) -> None:
        now = self.tick()
        spec = list(SPECS)[self.next_id % len(SPECS)]
        self.api.put(Job(self.next_id, kind, "QUEUING", created_ms=now, updated_ms=now, resource_spec=spec))
        self.next_id += 1
        self.created[kind] += self.counts

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        job = self.some(data, "QUEUING")
        if job:
            self.change(job, status="RUNNING", started_ms=self.tick(), ended_ms=None, running_ms=None)
            self.started[job.job_type] += self.counts
            self.begins_again(job)

    def begins_again(self, job: Job) -> None:
        """Note a rerun at its start, or at its end if it never started."""
        if job.id in self.reopened:
            self.reopened.discard(job.id)
            self.runs_again[job.job_type] += self.counts

    @rule(data=st.data(), spec=st.sampled_from(sorted(SPECS)))
    def ask_for_something_else(self, data: st.DataObject, spec: str) -> None:
        job = self.some(data, "QUEUING", "RUNNING", "UPLOADING")
        if job:
            # Its update time stays: another spec is reason enough to look at the row.
            self.api.put(msgspec.structs.replace(job, resource_spec=spec))

    @rule(data=st.data())
    def go_and_come_back(self, data: st.DataObject) -> None:
        job = self.some(data, "QUEUING", "RUNNING")
        if job and job.id in self.seen_in_flight:
            gone = self.api.jobs.pop(job.id)
            self.poll_once()
            self.api.put(gone)
            self.poll_once()

    @rule(data=st.data(), status=st.sampled_from(ENDS))
    def go_and_come_back_ended(self, data: st.DataObject, status: str) -> None:
        """No listing of changes shows a job that is older than the lookback, so it is asked for once more."""
        job = self.some(data, "QUEUING", "RUNNING")
        if job and job.id in self.seen_in_flight:
            gone = self.api.jobs.pop(job.id)
            self.poll_once()
            self.tick(1_000)
            self.end_of_run(gone, status)
            self.poll_once()

    @rule(data=st.data(), status=st.sampled_from(ENDS))
    def end(self, data: st.DataObject, status: str) -> None:
        job = self.some(data, "QUEUING", "RUNNING", "UPLOADING", "PONDERING")
        seen = job is not None and job.id in self.seen_in_flight and job.status != "PONDERING"
        if job and (seen or self.in_lookback(job)):
            self.end_of_run(job, status)

    @rule(data=st.data())
    def ponder(self, data: st.DataObject) -> None:
        """Let a job be in a status that nobody documents for a while; an old one is not looked at then."""
        job = self.some(data, "RUNNING")
        if job and self.in_lookback(job):
            self.change(job, status="PONDERING")

    def end_of_run(self, job: Job, status: str) -> None:
        now = self.tick(7)
        ran_ms = None if job.started_ms is None else now - job.started_ms
        code = "7" if is_failed(status) else ""
        self.change(job, status=status, ended_ms=now, running_ms=ran_ms, msg_code=code)
        self.seen_ended.discard(job.id)
        if job.id in self.ever_reopened - self.seen_in_flight:
            self.reruns.add(job.id)  # as a run between two polls, it is left to a full sync
        self.ended[job.job_type, status] += self.counts
        self.running_ms += (ran_ms or 0) * self.counts
        self.use(job, status, ran_ms or 0)
        self.begins_again(job)

    def use(self, job: Job, status: str, ran_ms: int) -> None:
        for family, thousandths in zip(("cores", "gpus", "memory"), SPECS[job.resource_spec], strict=True):
            self.used[family, job.job_type, status] += thousandths * ran_ms * self.counts

    @rule(
        kind=st.sampled_from(TYPES),
        status=st.sampled_from(ENDS),
        then=st.sampled_from(("stays", "runs again", "goes and comes back")),
    )
    def live_and_be_watched(self, kind: str, status: str, then: str) -> None:
        """A whole life at once, so that there are jobs whose end was seen for the other rules to take up."""
        self.create(kind)
        self.change(self.newest, status="RUNNING", started_ms=self.tick())
        self.started[kind] += self.counts
        self.poll_once()
        self.end_of_run(self.newest, status)
        self.poll_once()
        if then == "runs again":
            self.rerun(self.newest, status)
        if then == "goes and comes back":
            gone = self.api.jobs.pop(self.newest.id)
            self.poll_once()
            self.api.put(gone)

    @property
    def newest(self) -> Job:
        return self.api.jobs[self.next_id - 1]

    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        job = self.some(data, *ENDS, seen=True)
        if job:
            self.change(job, status="QUEUING", started_ms=None, ended_ms=None, running_ms=None, msg_code="")
            self.reopened.add(job.id)
            self.ever_reopened.add(job.id)

    @rule(data=st.data(), status=st.sampled_from(ENDS))
    def run_again_between_two_polls(self, data: st.DataObject, status: str) -> None:
        job = self.some(data, *ENDS, seen=True)
        if job:
            self.rerun(job, status)

    def rerun(self, job: Job, status: str) -> None:
        start, end = self.tick(), self.tick(3)
        self.change(job, status=status, started_ms=start, ended_ms=end, running_ms=3)
        self.seen_ended.discard(job.id)
        self.reruns.add(job.id)
        if self.in_lookback(job):
            self.started[job.job_type] += self.counts
            self.ended[job.job_type, status] += self.counts
            self.running_ms += 3 * self.counts
            self.use(job, status, 3)
            self.runs_again[job.job_type] += self.counts

    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        job = self.some(data, *ENDS, "RUNNING", "QUEUING", "PONDERING")
        if job:
            self.change(job)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job = self.some(data, *ENDS, seen=True)
        if job:
            del self.api.jobs[job.id]

    @rule(minutes=st.integers(1, 15))
    def time_passes(self, minutes: int) -> None:
        if self.reruns:
            self.poll_once(full=True)
        self.tick(minutes * MINUTE_MS)

    # -- the exporter ------------------------------------------------------------------------------------

    def poll_once(self, *, full: bool = False) -> None:
        self.tick()
        rules = poll_rules(*(2, LOOKBACK_MS, 0 if full else FULL_SYNC_MS), max_resource_specs=self.most_specs)
        self.totals = self.runner.run(release_held(self.ledger, self.target))
        poll = Poll(self.target, self.api, self.ledger, rules, lambda: self.api.now_ms)
        self.totals = self.runner.run(poll.run())
        self.balance()
        if full:
            self.reruns.clear()
        ended = {job.id for job in self.api.jobs.values() if job.has_ended}
        self.seen_ended |= ended - self.reruns
        self.seen_in_flight = {job.id for job in self.api.jobs.values() if not job.has_ended}

    @rule()
    def poll(self) -> None:
        self.poll_once()

    @rule()
    def full_sync(self) -> None:
        self.poll_once(full=True)
        self.poll_once(full=True)  # what was born at 0 takes its value
        self.agree()

    @rule(after=st.integers(0, 3))
    def poll_that_fails(self, after: int) -> None:
        def fail(_query: ListQuery) -> None:
            nonlocal after
            after -= 1
            if after < 0:
                raise ApiUnavailable("no")

        self.api.before_page = fail
        try:
            self.poll_once()
        except PollError:
            pass
        finally:
            self.api.before_page = None

    @rule(added=st.lists(st.integers(0, 4), min_size=1, max_size=3))
    def poll_while_rows_move(self, added: list[int]) -> None:
        """Rows that are inserted and deleted between two pages shift the others."""

        def move(_query: ListQuery) -> None:
            if added and self.counts:
                for _ in range(added.pop()):
                    self.create(TYPES[0])
                gone = next((id_ for id_ in sorted(self.seen_ended) if id_ in self.api.jobs), None)
                if gone is not None and self.api.jobs[gone].has_ended:
                    del self.api.jobs[gone]

        self.api.before_page = move
        seen_ended, seen_in_flight = set(self.seen_ended), set(self.seen_in_flight)
        try:
            self.poll_once()
        finally:
            self.api.before_page = None
        # What came in the middle may have been seen or not.
        self.seen_ended, self.seen_in_flight = seen_ended, seen_in_flight & self.seen_in_flight

    @rule(most_specs=st.integers(1, 5))
    def restart(self, most_specs: int) -> None:
        self.runner.run(self.ledger.close())
        self.open()
        restored = self.runner.run(self.ledger.restore(self.target, poll_rules().counting))
        assert restored == self.totals
        self.most_specs = most_specs
        self.highest_most_specs = max(self.highest_most_specs, most_specs)

    def balance(self) -> None:
        """After every poll, what is kept of the jobs in flight by spec is what a recount gives."""
        recount = """
            SELECT job_type, resource_label, status, count(*) FROM jobs WHERE in_flight = 1 GROUP BY 1, 2, 3
        """
        with closing(sqlite3.connect(Path(self.folder.name) / "ledger.db")) as db:
            kept = db.execute("SELECT job_type, resource_spec, status, jobs FROM resource_jobs").fetchall()
            counted = db.execute(recount).fetchall()
        assert sorted(row for row in kept if row[-1]) == sorted(counted)
        assert self.totals is not None
        assert len({*self.totals.resource_submitting} - {"", "other"}) <= self.highest_most_specs
        assert {spec for spec, _ in self.totals.resource_jobs} == {*self.totals.resource_submitting}

    def agree(self) -> None:
        totals = self.totals
        assert totals is not None
        assert +Counter({key: value.value for key, value in totals.completed.items()}) == +self.ended
        assert +Counter({key: value.value for key, value in totals.created.items()}) == +self.created
        assert (
            +Counter({kind: sum(value.counts) for kind, value in totals.submitting.items()}) == +self.started
        )
        assert sum(value.sum_ms for value in totals.running.values()) == self.running_ms
        failures = +Counter({(kind, status): 0 for kind, status, _ in totals.failures})
        for (kind, status, _), value in totals.failures.items():
            failures[kind, status] += value.value
        assert +failures == +Counter({key: n for key, n in self.ended.items() if is_failed(key[1])})
        listed = Counter(
            (job.job_type, job.status)
            for job in self.api.jobs.values()
            if not job.has_ended or self.in_lookback(job)
        )
        assert +Counter(totals.jobs) == listed
        self.agree_on_resources(totals)

    def agree_on_resources(self, totals: Totals) -> None:
        used = {
            (family, *key): value.value
            for family, series in (
                ("cores", totals.core_seconds),
                ("gpus", totals.gpu_seconds),
                ("memory", totals.memory_seconds),
            )
            for key, value in series.items()
        }
        assert +Counter(used) == +self.used
        assert +Counter({kind: value.value for kind, value in totals.reruns.items()}) == +self.runs_again
        by_spec, by_type = totals.resource_submitting.values(), totals.submitting.values()
        assert sum(sum(value.counts) for value in by_spec) == self.started.total()
        assert sum(value.sum_ms for value in by_spec) == sum(value.sum_ms for value in by_type)
        # A spec has its own label as long as there are any; a job gets it as soon as there is one.
        labels, shown = {*totals.resource_submitting}, +Counter(totals.resource_jobs)
        in_flight = [job for job in self.api.jobs.values() if not job.has_ended]
        assert shown == Counter(
            (job.resource_spec if job.resource_spec in labels else "other", job.status) for job in in_flight
        )
        share_a_label = {job.resource_spec for job in in_flight} - labels - {"other"}
        assert not share_a_label or len(labels - {"", "other"}) >= self.most_specs


Counting.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCounting = Counting.TestCase
