"""
How a job lives: the steps of a run, drawn when it begins, and what befalls a job whose run has ended.

Pure: the random source comes in with every call. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from random import Random
from typing import NamedTuple

from exporter.model import IN_FLIGHT_STATUSES, is_terminal
from exporter.simulator.profiles import Cause, Profile, Spread
from exporter.simulator.seasons import DAY_MS, HOUR_MS

REOPENED_AFTER_MS = 2 * HOUR_MS
DELETED_AFTER_MS = DAY_MS

NEVER_MS = 2**62

TOUCHED_SHARE = 0.05
REOPENED_SHARE = 0.02
DELETED_SHARE = 0.10

# Where a run may be cut short: the stages are waiting for LAUNCHING, RUNNING, UPLOADING and the end.
_CUT_STAGES: Mapping[str, tuple[int, ...]] = {
    "SUBMIT_FAILED": (0, 0, 1),
    "RUN_FAILED": (2,),
    "UPLOAD_FAILED": (3,),
    "STOPPED": (0, 1, 2, 2, 2, 3),
}
_STAY = {status: steps for steps, status in enumerate(IN_FLIGHT_STATUSES)}
_SOON = Spread(4, 0.5)


class Run(NamedTuple):
    """
    One run from its QUEUING on.

    Shape: `times_ms` ascending, one per step: LAUNCHING, RUNNING, UPLOADING as far as it gets, and `last` as
    the last one, which ends the run unless the job is to stay there (`ends` false); `msg_code` 0 for none;
    `taken` steps lie behind.
    """

    times_ms: tuple[int, ...]
    last: str
    msg_code: int = 0
    taken: int = 0
    ends: bool = True

    @property
    def next_ms(self) -> int | None:
        """When the next step is due; None behind the last one."""
        return self.times_ms[self.taken] if self.taken < len(self.times_ms) else None

    @property
    def next_status(self) -> str:
        """What the next step leads to."""
        return IN_FLIGHT_STATUSES[self.taken + 1] if self.taken < len(self.times_ms) - 1 else self.last

    @property
    def is_ended_by_next(self) -> bool:
        return self.ends and self.taken == len(self.times_ms) - 1

    def failing(self, status: str, msg_code: int) -> Run:
        """Give the same run, with its next step the end, in this status."""
        return self._replace(
            times_ms=self.times_ms[: self.taken + 1], last=status, msg_code=msg_code, ends=True
        )

    @property
    def started_ms(self) -> int:
        """When a run that ends has entered RUNNING; 0 for never."""
        return self.times_ms[1] if len(self.times_ms) > 2 else 0

    def sooner(self, since_ms: int, pace: float) -> Run:
        """Give the same run, with what comes after a time at another pace."""
        return self._replace(times_ms=tuple(sooner(at_ms, since_ms, pace) for at_ms in self.times_ms))


class Event(IntEnum):
    """
    What can happen in the world: a user submits jobs, one job takes a step, and after its end it is touched,
    reopened or deleted; a timetable submits jobs; a job is created that was to come later.
    """

    ARRIVAL = 0
    STEP = 1
    TOUCHED = 2
    REOPENED = 3
    DELETED = 4
    CRON = 5
    SUBMISSION = 6


def sooner(at_ms: int, since_ms: int, pace: float) -> int:
    """Bring a time that comes after another nearer: `pace` times as near, or out of reach for a pace of 0."""
    if at_ms <= since_ms or pace == 1:
        return at_ms
    return since_ms + int((at_ms - since_ms) / pace) if pace else NEVER_MS


def plan_run(rng: Random, profile: Profile, at_ms: int, outcomes: Mapping[str, float] | None = None) -> Run:
    """Draw a run that is queued now; `outcomes` None are the usual ones of its type."""
    launching = at_ms + profile.queue.draw_ms(rng)
    running = launching + profile.launch.draw_ms(rng)
    uploading = running + profile.run.draw_ms(rng)
    ended = uploading + profile.upload.draw_ms(rng)
    status = _pick(rng, outcomes or profile.outcomes)
    if status == "FINISHED":
        return Run((launching, running, uploading, ended), status)
    return _cut(rng, (at_ms, launching, running, uploading, ended), status, profile.causes)


def plan_soon(
    rng: Random, profile: Profile, at_ms: int, outcome: str, msg_code: int | None, ends: bool = False
) -> Run:
    """
    Draw a run that comes to `outcome` within seconds.

    An outcome that is not terminal is where the job stays; one that the documentation does not know follows
    RUNNING, and with `ends` it ends the run. `msg_code` None leaves the code to the profile.
    """
    soon = replace(profile, queue=_SOON, launch=_SOON, run=_SOON, upload=_SOON, outcomes={outcome: 1.0})
    if not is_terminal(outcome):
        whole = plan_run(rng, replace(soon, outcomes={"FINISHED": 1.0}), at_ms)
        return Run(whole.times_ms[: _STAY.get(outcome, 3)], outcome, ends=ends)
    run = plan_run(rng, soon, at_ms)
    return run if msg_code is None else run._replace(msg_code=msg_code)


def draw_fate(rng: Random, at_ms: int) -> tuple[int, Event] | None:
    """Draw when something befalls a job that ended (or was touched) now, and what; None for nothing."""
    lot = rng.random()
    if lot < TOUCHED_SHARE:
        return at_ms + 1000 + int(rng.expovariate(1 / HOUR_MS)), Event.TOUCHED
    if lot < TOUCHED_SHARE + REOPENED_SHARE:
        return at_ms + REOPENED_AFTER_MS + int(rng.expovariate(1 / DAY_MS)), Event.REOPENED
    if lot < TOUCHED_SHARE + REOPENED_SHARE + DELETED_SHARE:
        return at_ms + DELETED_AFTER_MS + int(rng.expovariate(1 / (6 * DAY_MS))), Event.DELETED
    return None


def draw_code(rng: Random, causes: tuple[Cause, ...]) -> int:
    """Draw the code of a failure; 0 for none."""
    if not causes:
        return 0
    return rng.choices(causes, [cause.weight for cause in causes])[0].code


def _cut(rng: Random, marks_ms: tuple[int, ...], status: str, causes: Mapping[str, tuple[Cause, ...]]) -> Run:
    """End a run before its time, within a stage where this status can come."""
    stage = rng.choice(_CUT_STAGES[status])
    begun_ms, over_ms = marks_ms[stage], marks_ms[stage + 1]
    ended_ms = begun_ms + 1 + int(rng.random() * (over_ms - begun_ms - 1))
    return Run((*marks_ms[1 : stage + 1], ended_ms), status, draw_code(rng, causes.get(status, ())))


def _pick(rng: Random, parts: Mapping[str, float]) -> str:
    """Draw one of the names by its part of 1."""
    lot = rng.random()
    for name, part in parts.items():
        lot -= part
        if lot < 0:
            return name
    return name
