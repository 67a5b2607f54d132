"""
What users and timetables submit: single jobs, batches that share their chances to fail, and retries.

Pure: the random source comes in with every call. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from random import Random
from typing import NamedTuple

from exporter.model import is_failed
from exporter.simulator.lives import Run, plan_run
from exporter.simulator.profiles import Cron, Profile
from exporter.simulator.seasons import DAY_MS, Seasons

MINUTE_MS = 60_000
_BATCH_WITHIN_MS = 3 * MINUTE_MS
# So many jobs of a batch run side by side, the others wait in the queue.
_BATCH_SLOTS = 20
# Drift takes no failed share above this, except for a type that fails more often anyway.
_MOST_SHARE = 0.32

Outcomes = Mapping[str, float]


class Submission(NamedTuple):
    """
    One job that is to be created.

    Shape: `outcomes` as in Profile; `wait_ms` is how long the job waits for others of its batch before its
    own time in the queue begins; a job `is_broken` if its input makes it fail again, then with `msg_code`.
    """

    at_ms: int
    profile: Profile
    outcomes: Outcomes
    wait_ms: int = 0
    is_broken: bool = False
    msg_code: int = 0


class Users:
    """
    Everyone who submits jobs, with the habits of each job type.

    Shape: `per_day` gives the jobs of a type in a day; no batch has more. With `seasons` None all days are
    alike.
    """

    def __init__(self, per_day: Mapping[str, float], seasons: Seasons | None) -> None:
        self._per_day = per_day
        self.seasons = seasons
        self._drifted: dict[tuple[str, int], Outcomes] = {}

    def submissions_per_job(self, profile: Profile) -> float:
        """Return how often users submit something for each job of a type: for a batch only once."""
        by_timetable = sum(cron.part for cron in profile.habits.crons)
        return (1 - by_timetable) / self._jobs_per_submission(profile)

    def is_there(self, profile: Profile, at_ms: int) -> bool:
        """Tell whether jobs of this type are submitted at all by then."""
        return self.seasons is None or self.seasons.is_there(profile, at_ms)

    def submit(self, rng: Random, profile: Profile, at_ms: int) -> list[Submission]:
        """Draw what a user submits now: one job or a batch, ascending in time; the first comes now."""
        batched = profile.habits.batched
        if not batched:
            return [self.single(profile, at_ms)]
        batches = batched / self._mean_batch(profile) * self._jobs_per_submission(profile)
        if rng.random() >= batches:
            return [self.single(profile, at_ms)]
        least, most = self._batch_limits(profile)
        size = round(exp(rng.uniform(log(least), log(most))))
        return self._batch(rng, profile, at_ms, size, _BATCH_WITHIN_MS)

    def single(self, profile: Profile, at_ms: int) -> Submission:
        """Submit one job that shares its chances with no other."""
        return Submission(at_ms, profile, self._outcomes(profile, at_ms))

    def scheduled(self, rng: Random, profile: Profile, cron: Cron, at_ms: int) -> list[Submission]:
        """Draw what a timetable submits at its time, ascending in time."""
        size = cron.jobs + round(cron.part * self._per_day[profile.job_type])
        within_ms = int(cron.within_minutes * MINUTE_MS)
        if size == 1:
            return [self.single(profile, at_ms + int(rng.random() * within_ms))]
        return self._batch(rng, profile, at_ms, size, within_ms)

    def live(self, rng: Random, submission: Submission) -> tuple[Run, Submission | None]:
        """Draw the job's run, and the new job that a user submits in its place if it fails."""
        at_ms, profile, outcomes, wait_ms, is_broken, msg_code = submission
        run = plan_run(rng, profile, at_ms + wait_ms, outcomes)
        if is_broken and is_failed(run.last):
            run = run._replace(msg_code=msg_code)
        return run, self.retry(rng, profile, run, is_broken)

    def retry(self, rng: Random, profile: Profile, run: Run, is_broken: bool = False) -> Submission | None:
        """Draw the new job that a user submits in place of one that fails so; None for none."""
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
        outcomes = _shared(rng, self._outcomes(profile, at_ms), profile.habits.correlation)
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
        """Return the least and the greatest size of a batch: a type that seldom runs has small ones."""
        least, most = profile.habits.batch_jobs
        return least, min(max(self._per_day[profile.job_type], least), most)

    def _mean_batch(self, profile: Profile) -> float:
        least, most = self._batch_limits(profile)
        return (most - least) / log(most / least) if most > least else least

    def _outcomes(self, profile: Profile, at_ms: int) -> Outcomes:
        """Return the usual outcomes of a run, with the drift of its failed share."""
        if self.seasons is None:
            return profile.outcomes
        key = profile.job_type, at_ms // DAY_MS
        if key not in self._drifted:
            self._drifted[key] = _drifted(profile.outcomes, self.seasons.share(profile, key[1]))
        return self._drifted[key]


def _drifted(usual: Outcomes, factor: float) -> Outcomes:
    failed = _failed(usual)
    share = sum(failed.values())
    factor = min(factor, max(1.0, _MOST_SHARE / share)) if share else 1.0
    return _with_failures(usual, {status: part * factor for status, part in failed.items()})


def _shared(rng: Random, usual: Outcomes, correlation: float) -> Outcomes:
    """
    Draw what all jobs of a batch share: the chances of each failed status, around the usual ones.

    They are Dirichlet, so that the failures of a batch are beta-binomial with this correlation.
    """
    if not correlation:
        return usual
    weight = 1 / correlation - 1
    drawn = {status: rng.gammavariate(part * weight, 1) for status, part in _failed(usual).items()}
    rest = rng.gammavariate((1 - sum(_failed(usual).values())) * weight, 1)
    total = rest + sum(drawn.values())
    return _with_failures(usual, {status: part / total for status, part in drawn.items()})


def _failed(outcomes: Outcomes) -> dict[str, float]:
    return {status: part for status, part in outcomes.items() if is_failed(status) and part}


def _with_failures(usual: Outcomes, failed: Outcomes) -> Outcomes:
    """Replace the failed parts, and leave the others in their proportions."""
    rest = (1 - sum(failed.values())) / (1 - sum(_failed(usual).values()))
    return {
        status: failed.get(status, 0.0 if is_failed(status) else part * rest)
        for status, part in usual.items()
    }
