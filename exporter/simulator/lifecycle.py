"""
The life cycle of a job: the stages of a run, planned when it begins, incidents that make it fail, and what
happens to the job after the run has ended.

Pure: every call passes the random source. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from random import Random
from typing import NamedTuple

from exporter.model import is_failed, is_terminal
from exporter.simulator.profiles import DAY_MS, HOUR_MS, Cause, LogNormal, Profile

# The stages of a run, in their order. They are defined here because the exporter's tuples of statuses have no
# order: these may be reordered or extended without any effect on the simulator.
STAGES = ("QUEUING", "LAUNCHING", "RUNNING", "UPLOADING")

# The stages in which a run may end early with a status. One is drawn, so a stage listed twice is twice as
# likely.
_ENDS_EARLY_IN: Mapping[str, tuple[str, ...]] = {
    "SUBMIT_FAILED": ("QUEUING", "QUEUING", "LAUNCHING"),
    "RUN_FAILED": ("RUNNING",),
    "UPLOAD_FAILED": ("UPLOADING",),
    "STOPPED": ("QUEUING", "LAUNCHING", "RUNNING", "RUNNING", "RUNNING", "UPLOADING"),
}
# In an incident, a run fails with this status as it leaves this stage.
_FAILS_LEAVING: Mapping[str, str] = {
    "SUBMIT_FAILED": "LAUNCHING",
    "RUN_FAILED": "RUNNING",
    "UPLOAD_FAILED": "UPLOADING",
}

REOPENED_AFTER_MS = 2 * HOUR_MS
DELETED_AFTER_MS = DAY_MS
# It fits into a column of 64 bits.
NEVER_MS = 2**62

TOUCHED_SHARE = 0.05
REOPENED_SHARE = 0.02
DELETED_SHARE = 0.10

_SOON = LogNormal(4, 0.5)


class RunPlan(NamedTuple):
    """
    One run, planned from its QUEUING on.

    Shape: `times_ms` has one time per step, ascending: the steps lead into the stages after QUEUING, as far
    as the run gets, and then into `last`. `last` ends the run, or the job stays in it if `ends` is false.
    `msg_code` is 0 for none; `taken` steps are done.
    """

    times_ms: tuple[int, ...]
    last: str
    msg_code: int = 0
    taken: int = 0
    ends: bool = True

    @property
    def next_ms(self) -> int | None:
        """When the next step is due; None after the last one."""
        return self.times_ms[self.taken] if self.taken < len(self.times_ms) else None

    @property
    def next_status(self) -> str:
        return STAGES[self.taken + 1] if self.taken < len(self.times_ms) - 1 else self.last

    @property
    def started_ms(self) -> int:
        """When a run that ends has entered RUNNING; 0 for never."""
        return self.times_ms[1] if len(self.times_ms) > 2 else 0

    def at_pace(self, since_ms: int, pace: float) -> RunPlan:
        """Return the same run, with the steps after `since_ms` at another pace."""
        return self._replace(times_ms=tuple(at_pace(at_ms, since_ms, pace) for at_ms in self.times_ms))


class EventKind(IntEnum):
    """
    The kinds of events in the world.

    ARRIVAL: a user submits jobs. STEP: a job enters its next status. After its end, a job is touched (only
    its update time changes), reopened or deleted. CRON: a timetable submits jobs. SUBMISSION: a job that was
    planned earlier is created.
    """

    ARRIVAL = 0
    STEP = 1
    TOUCHED = 2
    REOPENED = 3
    DELETED = 4
    CRON = 5
    SUBMISSION = 6


def at_pace(at_ms: int, since_ms: int, pace: float) -> int:
    """Return when something due at `at_ms` happens, if time passes `pace` times as fast after `since_ms`."""
    if at_ms <= since_ms or pace == 1:
        return at_ms
    return since_ms + int((at_ms - since_ms) / pace) if pace else NEVER_MS


def plan_run(
    rng: Random, profile: Profile, at_ms: int, outcomes: Mapping[str, float] | None = None
) -> RunPlan:
    """Plan a run that is queued now; `outcomes` None means the usual ones of its type."""
    launching = at_ms + profile.queue.draw_ms(rng)
    running = launching + profile.launch.draw_ms(rng)
    uploading = running + profile.run.draw_ms(rng)
    ended = uploading + profile.upload.draw_ms(rng)
    status = _draw_status(rng, outcomes or profile.outcomes)
    if status == "FINISHED":
        return RunPlan((launching, running, uploading, ended), status)
    # The run ends early, at any time within a stage that this status can end.
    stage = STAGES.index(rng.choice(_ENDS_EARLY_IN[status]))
    marks_ms = (at_ms, launching, running, uploading, ended)
    begun_ms, over_ms = marks_ms[stage], marks_ms[stage + 1]
    ended_ms = begun_ms + 1 + int(rng.random() * (over_ms - begun_ms - 1))
    msg_code = draw_code(rng, profile.causes.get(status, ()))
    return RunPlan((*marks_ms[1 : stage + 1], ended_ms), status, msg_code)


def plan_soon(
    rng: Random, profile: Profile, at_ms: int, outcome: str, msg_code: int | None, ends: bool = False
) -> RunPlan:
    """
    Plan a run that reaches `outcome` within seconds.

    The job stays in an outcome that is not terminal. An undocumented outcome follows RUNNING, and ends the
    run with `ends`. With `msg_code` None, the profile determines the code.
    """
    soon = replace(profile, queue=_SOON, launch=_SOON, run=_SOON, upload=_SOON, outcomes={outcome: 1.0})
    if not is_terminal(outcome):
        whole = plan_run(rng, replace(soon, outcomes={"FINISHED": 1.0}), at_ms)
        steps = STAGES.index(outcome if outcome in STAGES else "UPLOADING")
        return RunPlan(whole.times_ms[:steps], outcome, ends=ends)
    run = plan_run(rng, soon, at_ms)
    return run if msg_code is None else run._replace(msg_code=msg_code)


def _draw_status(rng: Random, outcomes: Mapping[str, float]) -> str:
    lot = rng.random()
    for status, part in outcomes.items():
        lot -= part
        if lot < 0:
            return status
    # The probabilities add up to 1, except for rounding.
    return status


def draw_fate(rng: Random, at_ms: int) -> tuple[int, EventKind] | None:
    """Draw what happens to a job that ended (or was touched) now, and when; None for nothing."""
    lot = rng.random()
    if lot < TOUCHED_SHARE:
        return at_ms + 1000 + int(rng.expovariate(1 / HOUR_MS)), EventKind.TOUCHED
    if lot < TOUCHED_SHARE + REOPENED_SHARE:
        return at_ms + REOPENED_AFTER_MS + int(rng.expovariate(1 / DAY_MS)), EventKind.REOPENED
    if lot < TOUCHED_SHARE + REOPENED_SHARE + DELETED_SHARE:
        return at_ms + DELETED_AFTER_MS + int(rng.expovariate(1 / (6 * DAY_MS))), EventKind.DELETED
    return None


def draw_code(rng: Random, causes: tuple[Cause, ...]) -> int:
    """Draw the code of a failure; 0 for none."""
    if not causes:
        return 0
    return rng.choices(causes, [cause.weight for cause in causes])[0].code


class Incident(NamedTuple):
    """
    For some time, runs fail that would have continued.

    Shape: `listings` by number; `job_type` None means all types; `outcome` is a failed status; `share` is the
    fraction of the runs that fail; with `msg_code` None, the job type determines the code.
    """

    listings: frozenset[int]
    job_type: str | None
    outcome: str
    share: float
    until_ms: int
    msg_code: int | None


class Incidents:
    def __init__(self) -> None:
        self._by_place: dict[tuple[frozenset[int], str | None, str], Incident] = {}

    def begin(self, incident: Incident) -> None:
        """Begin an incident; it replaces the one of the same listings, job type and outcome."""
        self._by_place[incident.listings, incident.job_type, incident.outcome] = incident

    def hitting(
        self, rng: Random, listing: int, job_type: str, leaves: str, becomes: str, at_ms: int
    ) -> Incident | None:
        """
        Return the incident that makes a run fail now, as it `leaves` one status and `becomes` another.

        An incident has no effect on a run that fails or is stopped anyway.
        """
        if is_failed(becomes) or becomes == "STOPPED":
            return None
        for incident in self._by_place.values():
            is_here = listing in incident.listings and incident.job_type in (None, job_type)
            is_hit = is_here and at_ms < incident.until_ms and leaves == _FAILS_LEAVING[incident.outcome]
            # Drawn only where an incident is, so that without one a seed gives the same jobs.
            if is_hit and rng.random() < incident.share:
                return incident
        return None
