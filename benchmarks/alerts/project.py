"""
The properties of a project: its job types, their rates and usual failures, and the pauses of polls.

Units: minutes since the first day's midnight; shares are parts of the runs that end. Arrays over time have
one column for each minute, from WARM_UP minutes before the first day on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from exporter.model import JOB_TYPES
from exporter.simulator.arrivals import MOST_DRIFT
from exporter.simulator.profiles import BURSTY_HABITS

Flavour = Literal["even", "bursty"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
Floats = NDArray[np.float64]

DAY = 24 * 60
DAYS = 12
MINUTES = DAYS * DAY
# Day-long jobs that end on the first day began before it.
WARM_UP = 2 * DAY
# The first day is a Thursday, as 1970-01-01 was.
_WEEKEND = (2, 3)
_SIZES = 20
# Job types the API may invent: their series appear with their first run.
_INVENTED = ("MODEL_TRAINING", "REPLAY_SIMULATION")


@dataclass(frozen=True, slots=True)
class Ways:
    """The variation between projects. Ranges are drawn log-uniform unless stated otherwise."""

    runs_per_day: tuple[float, float] = (20, 8_000)
    kinds: tuple[int, int] = (4, 8)
    weight_sigma: float = 1.0
    usual_share: float = 0.04
    share_sigma: float = 0.8
    most_share: float = 0.32
    # Dirichlet parameters of the split of failures into SUBMIT_FAILED, RUN_FAILED and UPLOAD_FAILED.
    split: tuple[float, float, float] = (0.4, 1.6, 0.4)
    stopped: float = 0.01
    swing: tuple[float, float] = (0.2, 0.9)
    run_minutes: tuple[float, float] = (3, 60)
    wait_minutes: tuple[float, float] = (0.3, 5)
    slow_projects: float = 0.6
    day_long_projects: float = 0.3
    day_long_minutes: tuple[float, float] = (18 * 60, 30 * 60)
    day_long_per_day: tuple[float, float] = (2, 8)


@dataclass(frozen=True, slots=True)
class Bursts:
    """The additional variation of bursty lives: see `benchmarks/README.md`."""

    batched: tuple[float, float] = (0.3, 0.9)
    batch_runs: tuple[int, int] = BURSTY_HABITS.batch_jobs
    correlation: float = BURSTY_HABITS.correlation
    retried: float = BURSTY_HABITS.retried
    retry_minutes: tuple[float, float] = BURSTY_HABITS.retry_minutes
    broken: float = BURSTY_HABITS.broken
    broken_fails: float = BURSTY_HABITS.broken_fails
    cron: float = 0.4
    cron_part: tuple[float, float] = (0.05, 0.25)
    weekend: float = BURSTY_HABITS.weekend
    rate_drift: float = BURSTY_HABITS.rate_drift
    share_drift: float = BURSTY_HABITS.share_drift
    most_drift: float = MOST_DRIFT
    new_kind: float = 0.5


@dataclass(frozen=True, slots=True)
class Troubles:
    """Restarts of the exporter and pauses of the API; minutes are log-uniform."""

    restarts_per_day: float = 0.7
    restart_minutes: tuple[float, float] = (1, 4)
    pauses: float = 3.0
    pause_minutes: tuple[float, float] = (5, 360)
    spiked_pause_minutes: tuple[float, float] = (100, 200)


WAYS, BURSTS, TROUBLES = Ways(), Bursts(), Troubles()


@dataclass(frozen=True, eq=False, slots=True)
class Kind:
    """
    One job type of a project.

    Shape: `rate` is runs submitted per minute, by minute. `shares` is each failed status' usual part of the
    runs that end, by status (as FAILED_STATUSES) and minute; `fates` is the same for first tries, without the
    retries' own failures. `cron_minute` is the minute of the day at which `cron_runs` runs come at once.
    `batched` is the part of the runs that come in batches.
    """

    job_type: str
    rate: Floats
    fates: Floats
    shares: Floats
    run_minutes: float
    wait_minutes: float
    is_slow: bool = False
    is_day_long: bool = False
    batched: float = 0.0
    cron_minute: int = 0
    cron_runs: int = 0
    born: float = -WARM_UP


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes from `begin` to `end` (exclusive)."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Pauses:
    """When the exporter and the API were unavailable. `spiked` is the API pause with a spike in it."""

    exporter: tuple[Span, ...]
    api: tuple[Span, ...]
    spiked: Span

    def over(self, minute: int) -> int:
        """Return the first minute from this one on whose scrape is complete: outside of all pauses."""
        for span in sorted((*self.exporter, *self.api), key=lambda span: span.begin):
            minute = span.end if span.begin <= minute < span.end else minute
        return minute


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]))))


def draw_size(rng: np.random.Generator, seed: int) -> float:
    """
    Draw a project's runs a day, log-uniform.

    Each of 20 consecutive seeds draws from another twentieth of the range. So two sets of 20 lives have the
    same number of busy projects, which cause most false alarms.
    """
    part = (seed * 7 + 10) % _SIZES
    least, most = np.log(WAYS.runs_per_day)
    return float(np.exp(least + (most - least) * (part + rng.random()) / _SIZES))


def draw_kinds(rng: np.random.Generator, flavour: Flavour, runs_per_day: float) -> tuple[Kind, ...]:
    """Draw the job types of a project. The slow and the day-long one, if any, come last."""
    count = int(rng.integers(WAYS.kinds[0], WAYS.kinds[1] + 1))
    names = [*rng.permutation(JOB_TYPES), *_INVENTED][:count]
    special = [rng.random() < WAYS.slow_projects, rng.random() < WAYS.day_long_projects]
    usual = count - sum(special)
    weights = np.exp(rng.normal(0, WAYS.weight_sigma, usual))
    per_day = runs_per_day * weights / weights.sum()
    newest = int(rng.integers(usual)) if flavour == "bursty" and rng.random() < BURSTS.new_kind else -1
    kinds = [
        _kind(rng, flavour, str(name), rate, number == newest)
        for number, (name, rate) in enumerate(zip(names, per_day, strict=False))
    ]
    if special[0]:
        kinds.append(_slow_kind(rng, flavour, str(names[usual])))
    if special[1]:
        kinds.append(_day_long_kind(rng, flavour, str(names[-1])))
    return tuple(kinds)


def _kind(rng: np.random.Generator, flavour: Flavour, job_type: str, per_day: float, is_new: bool) -> Kind:
    rate = per_day / DAY * _day(rng)
    born = float(rng.integers(2 * DAY, 9 * DAY)) if is_new else -WARM_UP
    rate = rate * (np.arange(-WARM_UP, MINUTES) >= born)
    fates = _fates(rng, flavour)
    run_minutes, wait_minutes = log_uniform(rng, WAYS.run_minutes), log_uniform(rng, WAYS.wait_minutes)
    if flavour == "even":
        return Kind(job_type, rate, fates, fates, run_minutes, wait_minutes)
    rate = rate * _weekend() * _drift(rng, BURSTS.rate_drift)
    has_cron = rng.random() < BURSTS.cron
    return Kind(
        job_type,
        rate,
        fates,
        with_retries(fates),
        run_minutes,
        wait_minutes,
        batched=float(rng.uniform(*BURSTS.batched)),
        cron_minute=int(rng.integers(0, 6 * 60)),
        cron_runs=round(per_day * rng.uniform(*BURSTS.cron_part)) if has_cron else 0,
        born=born,
    )


def _slow_kind(rng: np.random.Generator, flavour: Flavour, job_type: str) -> Kind:
    """Draw a type with three runs a day, at about the same three times."""
    fates = _fates(rng, flavour)
    shares = fates if flavour == "even" else with_retries(fates)
    rate = np.zeros(WARM_UP + MINUTES)
    times = np.sort(rng.integers(0, 8 * 60) + np.array([0, 8 * 60, 16 * 60]))
    for day in range((WARM_UP + MINUTES) // DAY):
        rate[day * DAY + times] = 1.0
    return Kind(job_type, rate, fates, shares, log_uniform(rng, (10, 90)), 2.0, is_slow=True)


def _day_long_kind(rng: np.random.Generator, flavour: Flavour, job_type: str) -> Kind:
    fates = _fates(rng, flavour)
    shares = fates if flavour == "even" else with_retries(fates)
    rate = np.full(WARM_UP + MINUTES, log_uniform(rng, WAYS.day_long_per_day) / DAY)
    run_minutes = log_uniform(rng, WAYS.day_long_minutes)
    return Kind(job_type, rate, fates, shares, run_minutes, 3.0, is_day_long=True)


def _day(rng: np.random.Generator) -> Floats:
    """Give the rate over the time as a factor around 1: a wave a day."""
    swing, peak = rng.uniform(*WAYS.swing), rng.integers(DAY)
    return 1 + swing * np.cos(2 * np.pi * (np.arange(-WARM_UP, MINUTES) - peak) / DAY)


def _weekend() -> Floats:
    days = np.arange(-WARM_UP, MINUTES) // DAY % 7
    return np.where(np.isin(days, _WEEKEND), BURSTS.weekend, 1.0)


def _drift(rng: np.random.Generator, sigma: float) -> Floats:
    """Draw a factor that walks from day to day, a straight line in between."""
    days = np.arange(-WARM_UP, MINUTES + DAY, DAY)
    most = np.log(BURSTS.most_drift)
    walk = np.clip(np.cumsum(rng.normal(0, sigma, len(days))), -most, most)
    return np.exp(np.interp(np.arange(-WARM_UP, MINUTES), days, walk))


def _fates(rng: np.random.Generator, flavour: Flavour) -> Floats:
    total = min(WAYS.usual_share * np.exp(rng.normal(0, WAYS.share_sigma)), WAYS.most_share)
    split = rng.dirichlet(WAYS.split)
    drift = _drift(rng, BURSTS.share_drift) if flavour == "bursty" else np.ones(WARM_UP + MINUTES)
    return np.clip(total * drift, 0, WAYS.most_share) * split[:, None]


def with_retries(fates: Floats) -> Floats:
    """Return the usual shares of all runs with repeated ones, of which those with broken input fail again."""
    again = BURSTS.retried / (1 - BURSTS.retried * BURSTS.broken_fails)
    total = fates.sum(axis=0)
    failures = 1 + BURSTS.broken * BURSTS.broken_fails * again + (1 - BURSTS.broken) * BURSTS.retried * total
    runs = 1 + total * (BURSTS.broken * again + (1 - BURSTS.broken) * BURSTS.retried)
    return fates * failures / runs


def draw_pauses(rng: np.random.Generator) -> Pauses:
    """Draw restarts and API pauses, and one API pause during working hours."""
    restarts = [
        _span(rng, TROUBLES.restart_minutes) for _ in range(rng.poisson(TROUBLES.restarts_per_day * DAYS))
    ]
    pauses = [_span(rng, TROUBLES.pause_minutes) for _ in range(rng.poisson(TROUBLES.pauses))]
    begin = int(rng.integers(2, DAYS - 1)) * DAY + int(rng.integers(8 * 60, 16 * 60))
    spiked = Span(begin, begin + round(log_uniform(rng, TROUBLES.spiked_pause_minutes)))
    return Pauses(tuple(restarts), (*pauses, spiked), spiked)


def _span(rng: np.random.Generator, limits: tuple[float, float]) -> Span:
    minutes = max(1, round(log_uniform(rng, limits)))
    begin = int(rng.integers(DAY // 4, MINUTES - minutes))
    return Span(begin, begin + minutes)
