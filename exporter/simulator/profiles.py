"""
Job types as data: how many jobs users submit and when, how long the jobs take, how they end, why they fail.

The figures are invented so that they look like an active project; they are not measured at the real service.
PROFILE_SETS has three such projects, by the names that `simulate --profile` accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp
from random import Random
from statistics import NormalDist
from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_STEPS = 1024
# At the middle of each step, because at its ends the first and the last value would be infinite.
_NORMAL = tuple(NormalDist().inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS))


class LogNormal:
    """
    A log-normal duration, given by its median and the standard deviation of its logarithm.

    The values come from a table of quantiles, because a million jobs draw four million of them at the start.
    """

    def __init__(self, median_seconds: float, sigma: float) -> None:
        self.median_ms = int(1000 * median_seconds)
        # At least 10 ms: a stage without any length would never be seen.
        self._quantiles_ms = tuple(10 + int(1000 * median_seconds * exp(sigma * z)) for z in _NORMAL)

    def draw_ms(self, rng: Random) -> int:
        return self._quantiles_ms[int(rng.random() * _STEPS)]


class Cause(NamedTuple):
    """The cause of a failed run. With `code` 0, the row has neither a code nor a text."""

    code: int
    message: str
    weight: float


SUBMIT_CAUSES = (
    Cause(1001, "Insufficient resources: no node fits the resource specification.", 5),
    Cause(1002, "Pulling the operator image failed.", 3),
    Cause(1003, "The job quota of the workspace is used up.", 2),
)
UPLOAD_CAUSES = (
    Cause(4001, "Writing the results to OBS was denied.", 4),
    Cause(4002, "The bucket quota is used up.", 3),
    Cause(0, "", 1),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """
    Jobs that a timetable submits every day, also at weekends.

    Shape: it submits `jobs` jobs, plus the fraction `part` of the type's jobs of a day. Units: the first job
    is submitted at `minute` of the day (UTC), the others within `within_minutes` after it.
    """

    minute: int
    jobs: int = 0
    part: float = 0.0
    within_minutes: float = 3.0


@dataclass(frozen=True, slots=True)
class Habits:
    """
    How users submit the jobs of one type, and how this changes from day to day.

    With the defaults, jobs are submitted and fail independently of each other, and all days are alike.

    Shape: `batched` is the fraction of the type's jobs that users submit in batches; the size of a batch is
    log-uniform within `batch_jobs`. The jobs of a batch share their probability to fail: their failures are
    beta-binomial with this `correlation`. The same holds for the jobs that a cron submits at once. `retried`
    is the fraction of the failed jobs that a user submits again, as a new job, within `retry_minutes` after
    the failure. Of these, the fraction `broken` has a broken input, and fails the same way again with the
    probability `broken_fails`. `weekend` is the rate on Saturdays and Sundays (UTC) divided by that on other
    days. `rate_drift` and `share_drift` say how much the rate and the failed share change from one day to the
    next: the standard deviation of the logarithm.
    Units: `first_day` is in days since the start of the simulator; no job of the type is submitted before it.
    None for a type that has always existed.
    """

    batched: float = 0.0
    batch_jobs: tuple[int, int] = (5, 100)
    correlation: float = 0.0
    retried: float = 0.0
    retry_minutes: tuple[float, float] = (10, 60)
    broken: float = 0.4
    broken_fails: float = 0.8
    weekend: float = 1.0
    rate_drift: float = 0.0
    share_drift: float = 0.0
    first_day: float | None = None
    crons: tuple[Cron, ...] = ()


STEADY = Habits()


@dataclass(frozen=True, slots=True)
class Profile:
    """
    The behaviour of the jobs of one type.

    Shape: `outcomes` maps each terminal status to its probability; `causes` has the causes by failed status;
    `resource_specs` maps what the jobs of the type ask for to the percentage of the jobs that do; `share` is
    the type's share of the arrivals, 0 for a type that only timetables submit; `swing`, 0 to 1, is how far
    the rate moves around its mean over a day, with the peak at `peak_hour` UTC.
    """

    job_type: str
    resource_specs: Mapping[str, int]
    queue: LogNormal
    launch: LogNormal
    run: LogNormal
    upload: LogNormal
    outcomes: Mapping[str, float]
    causes: Mapping[str, tuple[Cause, ...]] = field(default_factory=dict)
    habits: Habits = STEADY
    share: float = 0.0
    peak_hour: int = 0
    swing: float = 0.0


def _outcomes(submit: float, run: float, upload: float, stopped: float) -> dict[str, float]:
    """Return the probabilities of the terminal statuses, from the percentages of runs that do not finish."""
    return {
        "FINISHED": (100 - submit - run - upload - stopped) / 100,
        "STOPPED": stopped / 100,
        "SUBMIT_FAILED": submit / 100,
        "RUN_FAILED": run / 100,
        "UPLOAD_FAILED": upload / 100,
    }


def _causes(*run: Cause) -> dict[str, tuple[Cause, ...]]:
    return {"SUBMIT_FAILED": SUBMIT_CAUSES, "RUN_FAILED": run, "UPLOAD_FAILED": UPLOAD_CAUSES}


PROFILES = (
    Profile(
        job_type="PACKAGE_IMPORT",
        share=0.28,
        peak_hour=2,
        swing=0.7,
        resource_specs={"2Core_8GiB": 70, "2Core_4GiB": 20, "4Core_16GiB": 10},
        queue=LogNormal(15, 0.9),
        launch=LogNormal(10, 0.4),
        run=LogNormal(480, 0.9),
        upload=LogNormal(40, 0.7),
        outcomes=_outcomes(submit=0.8, run=3.0, upload=1.0, stopped=1.0),
        causes=_causes(
            Cause(2001, "The data package is damaged: checksum mismatch.", 5),
            Cause(2002, "The data package holds no calibration file.", 3),
            Cause(0, "", 1),
        ),
    ),
    Profile(
        job_type="PACKAGE_DELETE",
        share=0.10,
        peak_hour=9,
        swing=0.8,
        resource_specs={"1Core_4GiB": 100},
        queue=LogNormal(5, 0.6),
        launch=LogNormal(6, 0.3),
        run=LogNormal(20, 0.7),
        upload=LogNormal(2, 0.3),
        outcomes=_outcomes(submit=0.3, run=0.7, upload=0.2, stopped=0.3),
        causes=_causes(Cause(2101, "The data package is in use by another job.", 1)),
    ),
    Profile(
        job_type="SCENARIO_AUTO_MINING",
        share=0.18,
        peak_hour=16,
        swing=0.9,
        resource_specs={"8Core_32GiB": 65, "T4_1Gpu_8Core_32GiB": 35},
        queue=LogNormal(60, 1.1),
        launch=LogNormal(20, 0.5),
        run=LogNormal(1500, 0.8),
        upload=LogNormal(60, 0.6),
        outcomes=_outcomes(submit=1.5, run=5.0, upload=1.0, stopped=2.0),
        causes=_causes(
            Cause(3101, "The mining operator ran out of memory.", 5),
            Cause(3102, "The mining operator exceeded its time limit.", 3),
            Cause(0, "", 1),
        ),
    ),
    Profile(
        job_type="SCENARIO_TO_SIM",
        share=0.14,
        peak_hour=7,
        swing=0.8,
        resource_specs={"4Core_16GiB": 80, "8Core_32GiB": 20},
        queue=LogNormal(20, 0.9),
        launch=LogNormal(15, 0.4),
        run=LogNormal(360, 0.7),
        upload=LogNormal(30, 0.6),
        outcomes=_outcomes(submit=0.8, run=4.0, upload=0.8, stopped=1.0),
        causes=_causes(
            Cause(3201, "The scenario names a map element that does not exist.", 4),
            Cause(3202, "The trajectory of the ego vehicle has gaps.", 3),
        ),
    ),
    Profile(
        job_type="FRAME_EXTRACT",
        share=0.18,
        peak_hour=6,
        swing=0.7,
        resource_specs={"4Core_16GiB": 60, "2Core_4GiB": 15, "P100_1Gpu_2.1Core_4.1GiB": 25},
        queue=LogNormal(25, 1.0),
        launch=LogNormal(12, 0.4),
        run=LogNormal(900, 0.8),
        upload=LogNormal(90, 0.7),
        outcomes=_outcomes(submit=1.0, run=3.5, upload=1.5, stopped=1.2),
        causes=_causes(
            Cause(3001, "A camera topic is missing in the data package.", 5),
            Cause(3002, "Decoding the video stream failed.", 3),
        ),
    ),
    Profile(
        job_type="SCENARIO_EXTRACT",
        share=0.12,
        peak_hour=8,
        swing=0.8,
        resource_specs={"4Core_16GiB": 85, "2Core_8GiB": 15},
        queue=LogNormal(30, 0.9),
        launch=LogNormal(12, 0.4),
        run=LogNormal(600, 0.8),
        upload=LogNormal(45, 0.6),
        outcomes=_outcomes(submit=0.8, run=3.0, upload=0.8, stopped=1.0),
        causes=_causes(
            Cause(3301, "The time range lies outside the data package.", 4),
            Cause(3302, "The label file has an unknown format.", 2),
        ),
    ),
)


# The failed share of a job type (all failed statuses) is log-normal around 4 %, up to 30 %.
_SHARES = {
    "PACKAGE_IMPORT": _outcomes(submit=0.7, run=2.8, upload=0.5, stopped=1.0),
    "PACKAGE_DELETE": _outcomes(submit=0.4, run=0.9, upload=0.2, stopped=0.3),
    "SCENARIO_AUTO_MINING": _outcomes(submit=2.0, run=9.0, upload=1.0, stopped=2.0),
    "SCENARIO_TO_SIM": _outcomes(submit=1.0, run=27.0, upload=2.0, stopped=1.0),
    "FRAME_EXTRACT": _outcomes(submit=2.5, run=2.0, upload=1.5, stopped=1.2),
    "SCENARIO_EXTRACT": _outcomes(submit=0.5, run=1.7, upload=0.3, stopped=1.0),
}

_SLOW = Profile(
    job_type="MAP_UPDATE",
    resource_specs={"4Core_16GiB": 100},
    queue=LogNormal(60, 0.7),
    launch=LogNormal(20, 0.4),
    run=LogNormal(2400, 0.4),
    upload=LogNormal(60, 0.5),
    outcomes=_outcomes(submit=1.0, run=6.0, upload=1.0, stopped=0.5),
    causes=_causes(Cause(3401, "Two versions of the map contradict each other.", 1)),
    habits=Habits(crons=tuple(Cron(hour * 60, jobs=1, within_minutes=40) for hour in (3, 11, 19))),
)

_DAY_LONG = Profile(
    job_type="MODEL_TRAINING",
    resource_specs={"V100_8Gpu_64Core_512GiB": 60, "V100_4Gpu_32Core_256GiB": 40},
    queue=LogNormal(180, 0.7),
    launch=LogNormal(60, 0.4),
    run=LogNormal(86_400, 0.15),
    upload=LogNormal(300, 0.5),
    outcomes=_outcomes(submit=1.0, run=4.0, upload=0.5, stopped=2.0),
    causes=_causes(Cause(3501, "The loss is not a number.", 3), Cause(3502, "A GPU was lost.", 2)),
    habits=Habits(crons=tuple(Cron(hour * 60, jobs=1, within_minutes=40) for hour in range(1, 24, 4))),
)

_EVEN = (*(replace(profile, outcomes=_SHARES[profile.job_type]) for profile in PROFILES), _SLOW, _DAY_LONG)

# benchmarks/alerts/project.py uses these figures too, so that both simulate the same bursty users.
BURSTY_HABITS = Habits(
    batched=0.6,
    correlation=0.04,
    retried=0.5,
    weekend=0.35,
    rate_drift=0.15,
    share_drift=0.12,
)
# The job types that a timetable submits every night at 02:00 in China, as fractions of their jobs of a day.
_NIGHTLY = {"PACKAGE_IMPORT": 0.15, "FRAME_EXTRACT": 0.20}

_NEW = Profile(
    job_type="REPLAY_SIMULATION",
    share=0.08,
    peak_hour=7,
    swing=0.8,
    resource_specs={"8Core_32GiB": 70, "T4_1Gpu_8Core_32GiB": 30},
    queue=LogNormal(40, 0.9),
    launch=LogNormal(15, 0.4),
    run=LogNormal(700, 0.7),
    upload=LogNormal(40, 0.6),
    outcomes=_outcomes(submit=1.0, run=4.0, upload=1.0, stopped=1.0),
    causes=_causes(Cause(3601, "The replay diverges from the recording.", 1)),
    habits=replace(BURSTY_HABITS, first_day=2.0),
)


def _bursty(profile: Profile) -> Profile:
    part = _NIGHTLY.get(profile.job_type)
    crons = (Cron(18 * 60, part=part),) if part else ()
    return replace(profile, habits=replace(BURSTY_HABITS, crons=(*profile.habits.crons, *crons)))


PROFILE_SETS: Mapping[str, tuple[Profile, ...]] = {
    "calm": PROFILES,
    "even": _EVEN,
    "bursty": (*map(_bursty, _EVEN), _NEW),
}
CALM = "calm"


def all_profiles() -> tuple[Profile, ...]:
    """Return the profiles of all sets. The profiles of one type have the same causes and resources."""
    return tuple(profile for profiles in PROFILE_SETS.values() for profile in profiles)


def invented(job_type: str) -> Profile:
    """Return a profile for an undocumented job type: a copy of a known one."""
    # With no share of the arrivals: such jobs come only where they are ordered.
    return replace(PROFILES[0], job_type=job_type, share=0.0)


def known_messages() -> dict[int, str]:
    return {
        cause.code: cause.message
        for profile in all_profiles()
        for causes in profile.causes.values()
        for cause in causes
        if cause.code
    }
