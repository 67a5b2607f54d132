"""
Days of a project's life: when its runs begin and end, as the simulator's job types live.

Units: minutes since the first day's midnight, UTC; jobs are there from a day before on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from exporter.model import IN_FLIGHT_STATUSES
from exporter.simulator.arrivals import Arrivals
from exporter.simulator.lives import REOPENED_SHARE, Run, plan_run
from exporter.simulator.profiles import PROFILES, Profile
from exporter.simulator.seasons import DAY_MS, HOUR_MS

MINUTE_MS = 60_000
DAY = 24 * 60
_WARM_UP_MS = DAY_MS
_DELETED_SHARE = 0.003
_WEEKEND_SHARE = 0.35
# The first day is a Thursday, as 1970-01-01 was.
_WEEKEND = (2, 3)
_CAMPAIGN_JOBS = 40


@dataclass(frozen=True, slots=True)
class Stay:
    """A job in one status, from `begin` to `end` (exclusive); `since` is what its age counts from."""

    job_type: str
    status: str
    begin: float
    end: float
    since: float


@dataclass(frozen=True, slots=True)
class Ending:
    """A run that ended. `msg_code` "" for none."""

    at: float
    job_type: str
    status: str
    msg_code: str


@dataclass(frozen=True, slots=True)
class Life:
    """All that happened in a project."""

    stays: tuple[Stay, ...]
    endings: tuple[Ending, ...]


def live(seed: int, jobs_per_day: float, days: int) -> Life:
    """Draw a project's life: four fifths of its jobs come singly, the others in campaigns of one type."""
    rng = Random(f"life {seed}")
    stays: list[Stay] = []
    endings: list[Ending] = []
    for at_ms, profile in _arrivals(rng, jobs_per_day, days):
        _live_one(rng, profile, at_ms, stays, endings)
    return Life(tuple(stays), tuple(sorted(endings, key=lambda ending: ending.at)))


def _arrivals(rng: Random, jobs_per_day: float, days: int) -> Iterator[tuple[int, Profile]]:
    arrivals = Arrivals(PROFILES, jobs_per_day * 0.8)
    campaigns = Arrivals(PROFILES, jobs_per_day * 0.2 / _CAMPAIGN_JOBS)
    until_ms = days * DAY_MS
    for at_ms in _moments(rng, arrivals, until_ms):
        yield at_ms, arrivals.profile_at(rng, at_ms)
    for at_ms in _moments(rng, campaigns, until_ms):
        profile = campaigns.profile_at(rng, at_ms)
        for _ in range(1 + int(rng.expovariate(1 / _CAMPAIGN_JOBS))):
            yield at_ms + int(rng.random() * HOUR_MS / 2), profile


def _moments(rng: Random, arrivals: Arrivals, until_ms: int) -> Iterator[int]:
    at_ms: int | None = -_WARM_UP_MS
    while (at_ms := arrivals.next_ms(rng, at_ms or 0)) is not None and at_ms < until_ms:
        if at_ms // DAY_MS % 7 not in _WEEKEND or rng.random() < _WEEKEND_SHARE:
            yield at_ms


def _live_one(rng: Random, profile: Profile, at_ms: int, stays: list[Stay], endings: list[Ending]) -> None:
    """Let a job live; now and then it is deleted on the way, or run again after its end."""
    run = plan_run(rng, profile, at_ms)
    if rng.random() < _DELETED_SHARE:
        stays += _stays(profile.job_type, run, at_ms, at_ms)[: rng.randrange(len(run.times_ms)) + 1]
        return
    stays += _stays(profile.job_type, run, at_ms, at_ms)
    endings.append(_ending(profile.job_type, run))
    if rng.random() < REOPENED_SHARE:
        again_ms = run.times_ms[-1] + 2 * HOUR_MS + int(rng.expovariate(1 / DAY_MS))
        run = plan_run(rng, profile, again_ms)
        stays += _stays(profile.job_type, run, again_ms, at_ms)
        endings.append(_ending(profile.job_type, run))


def _stays(job_type: str, run: Run, queued_ms: int, created_ms: int) -> list[Stay]:
    marks_ms = (queued_ms, *run.times_ms)
    return [
        Stay(
            job_type,
            status,
            begin_ms / MINUTE_MS,
            end_ms / MINUTE_MS,
            (created_ms if step < 2 else marks_ms[2]) / MINUTE_MS,
        )
        for step, (status, begin_ms, end_ms) in enumerate(
            zip(IN_FLIGHT_STATUSES, marks_ms, marks_ms[1:], strict=False)
        )
    ]


def _ending(job_type: str, run: Run) -> Ending:
    code = str(run.msg_code) if run.msg_code and run.last.endswith("_FAILED") else ""
    return Ending(run.times_ms[-1] / MINUTE_MS, job_type, run.last, code)
