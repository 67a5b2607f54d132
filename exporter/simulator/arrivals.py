"""
When users and timetables submit jobs, of which type, and how many at once.

A random process whose rate depends on the hour, the weekday and a drift from day to day. The jobs of a batch
share their probability to fail, and users submit failed jobs again.
Pure: calls pass the random sources; the walks have seeds of their own, so that reading a factor draws nothing
from the others. Days begin at midnight UTC. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from math import cos, exp, log, pi
from random import Random
from typing import NamedTuple

from exporter.model import is_failed
from exporter.simulator.lifecycle import RunPlan, plan_run
from exporter.simulator.profiles import DAY_MS, HOUR_MS, MINUTE_MS, Cron, Profile

HISTORY_MS = 30 * DAY_MS
MOST_DRIFT = 2.0
# The part of a drift that remains on the next day. Without this, a factor stays at its limits for weeks.
_KEPT = 0.9
# 1970-01-01 was a Thursday.
_WEEKEND = (2, 3)
# Larger than any number of an hour: with seasons each hour has rates of its own.
_NO_CYCLE = 2**62
_BATCH_WITHIN_MS = 3 * MINUTE_MS
# How many jobs of a batch run at the same time; the others wait in the queue.
_BATCH_SLOTS = 20
# Drift raises no failed share above this, except for a type whose usual share is higher.
_MOST_SHARE = 0.32

Outcomes = Mapping[str, float]


class Walk:
    """A factor that walks from day to day, within 1/2 and 2; 1 on the first day and before."""

    def __init__(self, seed: str, sigma: float, first_day: int) -> None:
        self._rng = Random(seed)
        self._sigma = sigma
        self._first_day = first_day
        self._factors = [1.0]

    def on(self, day: int) -> float:
        """Return the factor of a day, counted from 1970."""
        if not self._sigma or day <= self._first_day:
            return 1.0
        # In the order of the days, however they are asked for: the factor of a day must not change.
        while len(self._factors) <= day - self._first_day:
            drifted = self._factors[-1] ** _KEPT * exp(self._rng.gauss(0, self._sigma))
            self._factors.append(min(max(drifted, 1 / MOST_DRIFT), MOST_DRIFT))
        return self._factors[day - self._first_day]


class Seasons:
    """
    How rates and failed shares change from day to day: weekends, drift, and types that are new.

    Shape: `first_ms` has the time before which no job of a type is submitted, for new types; `highest` is an
    upper bound of all factors of rates. The walks begin at `begin_ms`.
    """

    def __init__(
        self, profiles: tuple[Profile, ...], seed: int, begin_ms: int, first_ms: dict[str, int]
    ) -> None:
        day = begin_ms // DAY_MS
        self._first_ms = first_ms
        self._rates = {
            one.job_type: Walk(f"rate {seed} {one.job_type}", one.habits.rate_drift, day) for one in profiles
        }
        self._shares = {
            one.job_type: Walk(f"share {seed} {one.job_type}", one.habits.share_drift, day)
            for one in profiles
        }
        drifts = any(one.habits.rate_drift for one in profiles)
        self.highest = (MOST_DRIFT if drifts else 1.0) * max(1.0, *(one.habits.weekend for one in profiles))

    def is_introduced(self, profile: Profile, at_ms: int) -> bool:
        return at_ms >= self._first_ms.get(profile.job_type, at_ms)

    def rate(self, profile: Profile, at_ms: int) -> float:
        """Return the type's rate as a part of its usual one."""
        if not self.is_introduced(profile, at_ms):
            return 0.0
        day = at_ms // DAY_MS
        weekend = profile.habits.weekend if day % 7 in _WEEKEND else 1.0
        return weekend * self._rates[profile.job_type].on(day)

    def share(self, profile: Profile, day: int) -> float:
        """Return the type's failed share on a day, as a part of its usual one."""
        walk = self._shares.get(profile.job_type)
        return walk.on(day) if walk else 1.0


class Submission(NamedTuple):
    """
    One job that is to be created.

    Shape: `outcomes` as in Profile; `wait_ms` is how long the job waits for others of its batch, in addition
    to its own time in the queue; a job `is_broken` if its input makes it fail again, then with `msg_code`.
    """

    at_ms: int
    profile: Profile
    outcomes: Outcomes
    wait_ms: int = 0
    is_broken: bool = False
    msg_code: int = 0


class Users:
    """All users. Shape: `per_day` has a type's jobs, the most of a batch; `seasons` None: days are alike."""

    def __init__(self, per_day: Mapping[str, float], seasons: Seasons | None) -> None:
        self._per_day = per_day
        self.seasons = seasons
        self._drifted: dict[tuple[str, int], Outcomes] = {}

    def submissions_per_job(self, profile: Profile) -> float:
        """Return how often users submit something for each job of a type: for a batch only once."""
        by_timetable = sum(cron.part for cron in profile.habits.crons)
        return (1 - by_timetable) / self._jobs_per_submission(profile)

    def have_introduced(self, profile: Profile, at_ms: int) -> bool:
        """Tell whether jobs of this type are submitted at that time; a new type comes later."""
        return self.seasons is None or self.seasons.is_introduced(profile, at_ms)

    def submit(self, rng: Random, profile: Profile, at_ms: int) -> list[Submission]:
        """Draw what a user submits now: one job or a batch, ascending in time; the first is submitted now."""
        batched = profile.habits.batched
        if not batched:
            return [self.single(profile, at_ms)]
        # The part of the submissions that are batches, given the part of the jobs that come in one.
        batches = batched / self._mean_batch(profile) * self._jobs_per_submission(profile)
        if rng.random() >= batches:
            return [self.single(profile, at_ms)]
        least, most = self._batch_limits(profile)
        size = round(exp(rng.uniform(log(least), log(most))))
        return self._batch(rng, profile, at_ms, size, _BATCH_WITHIN_MS)

    def single(self, profile: Profile, at_ms: int) -> Submission:
        """Submit one job that is independent of all others."""
        return Submission(at_ms, profile, self._outcomes(profile, at_ms))

    def scheduled(self, rng: Random, profile: Profile, cron: Cron, at_ms: int) -> list[Submission]:
        """Draw what a timetable submits at its time, ascending in time."""
        size = cron.jobs + round(cron.part * self._per_day[profile.job_type])
        within_ms = int(cron.within_minutes * MINUTE_MS)
        if size == 1:
            return [self.single(profile, at_ms + int(rng.random() * within_ms))]
        return self._batch(rng, profile, at_ms, size, within_ms)

    def live(self, rng: Random, submission: Submission) -> tuple[RunPlan, Submission | None]:
        """Plan the job's run, and the new job that a user submits in its place if it fails."""
        at_ms, profile, outcomes, wait_ms, is_broken, msg_code = submission
        run = plan_run(rng, profile, at_ms + wait_ms, outcomes)
        if is_broken and is_failed(run.last):
            run = run._replace(msg_code=msg_code)
        return run, self.retry(rng, profile, run, is_broken)

    def retry(
        self, rng: Random, profile: Profile, run: RunPlan, is_broken: bool = False
    ) -> Submission | None:
        """Draw the new job that a user submits in place of one whose run fails; None for none."""
        habits = profile.habits
        if not habits.retried or not is_failed(run.last) or rng.random() >= habits.retried:
            return None
        at_ms = run.times_ms[-1] + int(rng.uniform(*habits.retry_minutes) * MINUTE_MS)
        if is_broken or rng.random() < habits.broken:
            outcomes = {run.last: habits.broken_fails, "FINISHED": 1 - habits.broken_fails}
            return Submission(at_ms, profile, outcomes, is_broken=True, msg_code=run.msg_code)
        return self.single(profile, at_ms)

    def _batch(
        self, rng: Random, profile: Profile, at_ms: int, size: int, within_ms: int
    ) -> list[Submission]:
        """
        Draw a batch. All its jobs share the probability of each failed status, drawn around the usual one.

        The probabilities are Dirichlet, so that the failures of a batch are beta-binomial with the habits'
        correlation.
        """
        outcomes = self._outcomes(profile, at_ms)
        if profile.habits.correlation:
            failed = _failed(outcomes)
            weight = 1 / profile.habits.correlation - 1
            drawn = {status: rng.gammavariate(part * weight, 1) for status, part in failed.items()}
            total = rng.gammavariate((1 - sum(failed.values())) * weight, 1) + sum(drawn.values())
            outcomes = _with_failures(outcomes, {status: part / total for status, part in drawn.items()})
        later_ms = sorted(at_ms + int(rng.random() * within_ms) for _ in range(size - 1))
        slot_ms = profile.run.median_ms / _BATCH_SLOTS
        return [
            Submission(one_ms, profile, outcomes, int(rank * slot_ms))
            for rank, one_ms in enumerate([at_ms, *later_ms][:size])
        ]

    def _jobs_per_submission(self, profile: Profile) -> float:
        """Return how many jobs a user submits at once, on average over single jobs and batches."""
        batched = profile.habits.batched
        return 1 / (1 - batched + batched / self._mean_batch(profile)) if batched else 1.0

    def _batch_limits(self, profile: Profile) -> tuple[float, float]:
        """Return the least and the greatest size of a batch: a rare type has small ones."""
        least, most = profile.habits.batch_jobs
        return least, min(max(self._per_day[profile.job_type], least), most)

    def _mean_batch(self, profile: Profile) -> float:
        least, most = self._batch_limits(profile)
        # The mean of a log-uniform distribution.
        return (most - least) / log(most / least) if most > least else least

    def _outcomes(self, profile: Profile, at_ms: int) -> Outcomes:
        """Return the usual outcomes of a run, with the drift of its failed share."""
        if self.seasons is None:
            return profile.outcomes
        key = profile.job_type, at_ms // DAY_MS
        if key not in self._drifted:
            failed = _failed(profile.outcomes)
            share, factor = sum(failed.values()), self.seasons.share(profile, key[1])
            factor = min(factor, max(1.0, _MOST_SHARE / share)) if share else 1.0
            drifted = {status: part * factor for status, part in failed.items()}
            self._drifted[key] = _with_failures(profile.outcomes, drifted)
        return self._drifted[key]


def _failed(outcomes: Outcomes) -> dict[str, float]:
    return {status: part for status, part in outcomes.items() if is_failed(status) and part}


def _with_failures(usual: Outcomes, failed: Outcomes) -> Outcomes:
    """Replace the failed parts, and leave the others in their proportions."""
    rest = (1 - sum(failed.values())) / (1 - sum(_failed(usual).values()))
    return {
        status: failed.get(status, 0.0 if is_failed(status) else part * rest)
        for status, part in usual.items()
    }


class Arrivals:
    """
    The rate at which users submit, constant within an hour, around a mean of `jobs_per_day`.

    A batch counts as one submission, whatever its size. Timetables submit in addition to this rate.
    """

    def __init__(self, profiles: tuple[Profile, ...], jobs_per_day: float, users: Users) -> None:
        seasons = users.seasons
        self._profiles = profiles
        self._seasons = seasons
        self._parts = [users.submissions_per_job(profile) for profile in profiles]
        self._mean_per_ms = jobs_per_day / DAY_MS
        self._mean = sum(profile.share for profile in profiles)
        # The rates of all types up to each, by the hour, computed when first used. Without seasons all days
        # are alike, and the 24 hours of one are enough.
        self._rates: dict[int, list[float]] = {}
        self._cycle = _NO_CYCLE if seasons else 24
        # An upper bound of the rate, which the thinning below needs.
        self._peak = max(list(accumulate(self._usual_rates(hour)))[-1] for hour in range(24)) / self._mean
        if seasons:
            self._peak *= seasons.highest

    def next_ms(self, rng: Random, after_ms: int) -> int | None:
        """Draw the time of the next arrival; None if jobs never arrive."""
        if not self._mean_per_ms:
            return None
        at = float(after_ms)
        # A process with a varying rate, by thinning: draw at the peak rate, keep a part of the draws.
        while True:
            at += rng.expovariate(self._mean_per_ms * self._peak)
            if self._is_kept(rng, int(at)):
                # At least a millisecond later, so that events at one moment cannot go on for ever.
                return int(at) + 1

    def profile_at(self, rng: Random, at_ms: int) -> Profile:
        rates = self._rates_at(at_ms)
        return self._profiles[bisect_right(rates, rng.random() * rates[-1])]

    def history(self, rng: Random, count: int, until_ms: int) -> array[int]:
        """
        Draw the creation times of `count` jobs of the last 30 days, ascending.

        A quarter is spread over all of the 30 days, so that there are always old jobs. The others arrived at
        the rate at which jobs will arrive from now on.
        """
        recent_ms = self.recent_ms(count)
        old = [self.past_ms(rng, until_ms, HISTORY_MS) for _ in range(count // 4)]
        recent = [self.past_ms(rng, until_ms, recent_ms) for _ in range(count - count // 4)]
        return array("q", sorted(old + recent))

    def recent_ms(self, count: int) -> float:
        """Return how long it took three quarters of `count` jobs to arrive; at most 30 days."""
        natural_ms = (count - count // 4) / self._mean_per_ms if self._mean_per_ms else HISTORY_MS
        return min(natural_ms, HISTORY_MS)

    def past_ms(self, rng: Random, until_ms: int, span_ms: float) -> int:
        """Draw a time at which a user submitted something within the last `span_ms`."""
        while True:
            at_ms = until_ms - int(rng.random() * span_ms)
            if self._is_kept(rng, at_ms):
                return at_ms

    def _is_kept(self, rng: Random, at_ms: int) -> bool:
        return rng.random() * self._peak < self._rates_at(at_ms)[-1] / self._mean

    def _rates_at(self, at_ms: int) -> list[float]:
        hour = at_ms // HOUR_MS % self._cycle
        rates = self._rates.get(hour)
        if rates is None:
            usual = self._usual_rates(hour)
            if self._seasons is not None:
                factors = [self._seasons.rate(profile, hour * HOUR_MS) for profile in self._profiles]
                usual = [rate * factor for rate, factor in zip(usual, factors, strict=True)]
            rates = self._rates[hour] = list(accumulate(usual))
        return rates

    def _usual_rates(self, hour: int) -> list[float]:
        """Return each type's rate without seasons: its share, on a cosine with the peak at its hour."""
        return [
            profile.share * (1 + profile.swing * cos(2 * pi * (hour - profile.peak_hour) / 24)) * part
            for profile, part in zip(self._profiles, self._parts, strict=True)
        ]
