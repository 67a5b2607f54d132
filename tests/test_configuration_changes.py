"""Whatever is configured meanwhile: each run counts once, and history never."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Job, Totals, is_terminal
from exporter.sync.poll import Poll
from tests.fake_api import FULL_SYNC_MS, FakeApi, a_job, a_target, poll_rules
from tests.held import release_held

TYPES = ("FRAME_EXTRACT", "SCENARIO_TO_SIM")
SCOPES = ((), TYPES[:1], TYPES[1:], TYPES)
# Whether these end a run is configured. Jobs in the second one show an end time there.
SILENT, DATED = "SHELVED", "ARCHIVED"
ENDS = ("FINISHED", "RUN_FAILED", SILENT, DATED)
MINUTE_MS = 60_000
# The shortest leaves room for a life between two polls.
LOOKBACKS_MS = (30 * MINUTE_MS, 120 * MINUTE_MS, None)


@dataclass
class Life:
    """
    What a job has done, and how much of it is known by now.

    Shape: the run is the last one; `noted` are the changes of it that the exporter has seen. Units: times by
    the API's clock.
    """

    job: Job
    entered_ms: int
    noted: set[str] = field(default_factory=set)
    has_run: bool = False
    ends_seen: int = 0
    is_known: bool = False


class Configuring(RuleBasedStateMachine):
    """
    The exporter polls after every change, and every poll may come with another configuration.

    The only limits on lives: a job that is older than the shortest lookback does not run between two polls,
    and ends in a documented status.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.api = FakeApi(now_ms=1_000_000_000)
        self.ledger = self.runner.run(SqliteLedger.open(None))
        self.lives: dict[int, Life] = {}
        self.began: dict[str, int] = {}
        self.job_types: tuple[str, ...] = ()
        self.lookback_ms: int | None = LOOKBACKS_MS[0]
        self.most_statuses = 50
        self.horizon_ms = 0
        self.counted: dict[str, Counter[str]] = {
            name: Counter() for name in ("created", "started", "ended", "reruns")
        }

    def teardown(self) -> None:
        self.runner.run(self.ledger.close())
        self.runner.close()

    # -- lives -------------------------------------------------------------------------------------------

    def tick(self) -> int:
        self.api.now_ms += 2_000
        return self.api.now_ms

    def change(self, life: Life, **fields: object) -> None:
        life.job = msgspec.structs.replace(life.job, updated_ms=self.tick(), **fields)
        self.api.put(life.job)

    def some(self, data: st.DataObject, *statuses: str, young: bool = False) -> Life | None:
        fits = [
            life
            for life in self.lives.values()
            if life.job.status in statuses and (not young or self.is_young(life.job))
        ]
        return data.draw(st.sampled_from(fits)) if fits else None

    def is_young(self, job: Job) -> bool:
        """Tell whether a job stays in the lookback for a while, whichever is configured."""
        return job.created_ms >= self.api.now_ms - (LOOKBACKS_MS[0] or 0) + MINUTE_MS

    @rule(kind=st.sampled_from(TYPES))
    def create(self, kind: str) -> None:
        now, job_id = self.tick(), len(self.lives) + 1
        job = a_job(job_id, job_type=kind, created_ms=now, updated_ms=now)
        self.lives[job_id] = Life(job, now)
        self.api.put(job)
        self.poll()

    def start(self, life: Life) -> None:
        self.change(life, status="RUNNING", started_ms=self.tick(), ended_ms=None)

    def end(self, life: Life, status: str) -> None:
        self.change(life, status=status, ended_ms=None if status == SILENT else self.tick())
        life.entered_ms = life.job.updated_ms

    @rule(data=st.data())
    def starts(self, data: st.DataObject) -> None:
        if life := self.some(data, "QUEUING"):
            self.start(life)
            self.poll()

    @rule(data=st.data(), status=st.sampled_from(ENDS))
    def ends(self, data: st.DataObject, status: str) -> None:
        life = self.some(data, "QUEUING", "RUNNING")
        if life and (self.is_young(life.job) or is_terminal(status)):
            self.end(life, status)
            self.poll()

    @rule(data=st.data())
    def is_reopened(self, data: st.DataObject) -> None:
        if life := self.some(data, *ENDS):
            self.begin_run(life)
            self.change(life, status="QUEUING", started_ms=None, ended_ms=None)
            self.poll()

    @rule(data=st.data(), status=st.sampled_from(ENDS))
    def runs_again_between_two_polls(self, data: st.DataObject, status: str) -> None:
        life = self.some(data, *ENDS, young=True)
        # Of a run without any time nobody can tell another one.
        if life and (life.job.started_ms or life.job.ended_ms):
            self.begin_run(life)
            self.start(life)
            self.end(life, status)
            self.poll()

    def begin_run(self, life: Life) -> None:
        # A status that is no end did not end the run, so it starts once more.
        life.has_run |= "ended" in life.noted or self.has_ended(life)
        life.noted.clear()

    @rule(kind=st.sampled_from(TYPES), statuses=st.lists(st.sampled_from(ENDS), min_size=1, max_size=2))
    def runs_one_time_after_the_other(self, kind: str, statuses: list[str]) -> None:
        self.create(kind)
        life = self.lives[len(self.lives)]
        for number, status in enumerate(statuses):
            if number:
                self.begin_run(life)
                self.change(life, status="QUEUING", started_ms=None, ended_ms=None)
                self.poll()
            self.start(life)
            self.poll()
            self.end(life, status)
            self.poll()

    @rule(data=st.data(), shows_start=st.booleans(), shows_end=st.booleans())
    def is_updated(self, data: st.DataObject, shows_start: bool, shows_end: bool) -> None:
        """A row is updated. It may lack its start time until its next update, and its end may come late."""
        life = self.some(data, "QUEUING", "RUNNING", *ENDS)
        if life is None or life.entered_ms < self.began.get(life.job.job_type, self.api.now_ms):
            return
        silent = life.job.status == SILENT
        self.change(life, ended_ms=life.entered_ms if silent and shows_end else life.job.ended_ms)
        if not shows_start:
            self.api.put(msgspec.structs.replace(life.job, started_ms=None))
        self.poll()

    @rule(minutes=st.integers(1, 40))
    def time_passes(self, minutes: int) -> None:
        self.poll(full=True)
        self.api.now_ms += minutes * MINUTE_MS
        # A job is only taken for one that was pruned if there are younger ones.
        self.create((self.job_types or TYPES)[0])
        self.poll(full=True)

    # -- the exporter ------------------------------------------------------------------------------------

    @rule(
        named=st.sets(st.sampled_from((SILENT, DATED))),
        most_statuses=st.integers(0, 2),
        touches=st.booleans(),
        data=st.data(),
    )
    def statuses_are_named(
        self, named: set[str], most_statuses: int, touches: bool, data: st.DataObject
    ) -> None:
        self.api.terminal = frozenset(named)
        # A row that is updated at this very moment is no other run. But if its status gets a label of its own
        # at the same moment, it cannot be told from a job that has changed its status.
        touches = touches and most_statuses == self.most_statuses
        self.most_statuses = most_statuses
        if touches and (life := self.some(data, *ENDS)) and life.is_known:
            self.change(life)
        self.poll(full=True)

    @rule(job_types=st.sampled_from(SCOPES))
    def job_types_are_changed(self, job_types: tuple[str, ...]) -> None:
        self.job_types = job_types
        self.poll()

    @rule(lookback_ms=st.sampled_from(LOOKBACKS_MS))
    def lookback_is_changed(self, lookback_ms: int | None) -> None:
        self.lookback_ms = lookback_ms
        self.poll()

    @initialize(named=st.sets(st.sampled_from((SILENT, DATED))))
    def polls_first(self, named: set[str]) -> None:
        self.api.terminal = frozenset(named)
        self.poll()

    @rule()
    def polls_again(self) -> None:
        self.poll()

    def poll(self, *, full: bool = False) -> None:
        self.tick()
        rules = poll_rules(5, self.lookback_ms, 0 if full else FULL_SYNC_MS, max_statuses=self.most_statuses)
        target = a_target(job_types=self.job_types)
        began_ms = self.api.now_ms
        totals = self.runner.run(Poll(target, self.api, self.ledger, rules, lambda: self.api.now_ms).run())
        self.note(began_ms)
        totals = self.runner.run(release_held(self.ledger, target, rules.counting)) or totals
        self.tick()
        self.agree(totals)

    # -- what is expected --------------------------------------------------------------------------------

    def note(self, began_ms: int) -> None:
        scope = self.job_types or TYPES
        begun = [kind for kind in scope if kind not in self.began]
        for life in self.lives.values():
            if life.job.job_type not in scope:
                life.is_known, life.ends_seen = False, 0
                life.noted.clear()
        self.began = {kind: self.began.get(kind, began_ms) for kind in scope}
        self.horizon_ms = 0 if self.lookback_ms is None else began_ms - self.lookback_ms
        for life in self.lives.values():
            if life.job.job_type in scope and self.shows(life):
                self.note_life(life, begun=life.job.job_type in begun)

    def has_ended(self, life: Life) -> bool:
        named = life.job.status in self.api.terminal
        return msgspec.structs.replace(life.job, named_terminal=named).has_ended

    def shows(self, life: Life) -> bool:
        return not self.has_ended(life) or life.is_known or life.job.created_ms >= self.horizon_ms

    def note_life(self, life: Life, *, begun: bool) -> None:
        job, since_ms, was_known = life.job, self.began[life.job.job_type], life.is_known
        counted, ended = self.counted, self.has_ended(life)
        if not was_known:
            life.is_known = True
            life.ends_seen += int(life.has_run and not ended and not begun)
            counted["created"][job.job_type] += job.created_ms >= since_ms
        past = not was_known and ended and life.entered_ms < since_ms
        if job.started_ms is not None and "started" not in life.noted:
            life.noted.add("started")
            if (was_known or job.started_ms >= since_ms) and not past:
                counted["started"][job.job_type] += 1
                self.note_rerun(life)
        if ended and "ended" not in life.noted:
            if life.entered_ms >= since_ms:
                counted["ended"][job.job_type] += 1
                self.note_rerun(life)
            life.noted.add("ended")
            life.ends_seen += 1

    def note_rerun(self, life: Life) -> None:
        if life.ends_seen and "rerun" not in life.noted:
            life.noted.add("rerun")
            self.counted["reruns"][life.job.job_type] += 1

    def agree(self, totals: Totals) -> None:
        found: dict[str, Counter[str]] = {name: Counter() for name in self.counted}
        scope = self.job_types or TYPES
        for kind in scope:
            found["created"][kind] = totals.created[kind].value
            found["started"][kind] = sum(totals.submitting[kind].counts)
            found["ended"][kind] = sum(
                value.value for (of, _), value in totals.completed.items() if of == kind
            )
            found["reruns"][kind] = totals.reruns[kind].value
        expected = {
            name: Counter({kind: counts[kind] for kind in scope}) for name, counts in self.counted.items()
        }
        assert found == expected


# The same lives in every run: where a life is odd enough, the account here and the rules may differ.
Configuring.TestCase.settings = settings(
    derandomize=True,
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestConfiguring = Configuring.TestCase
