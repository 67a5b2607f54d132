"""The runs of a project: when they are submitted, and when and how they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.project import BURSTS, DAY, MINUTES, WARM_UP, WAYS, Flavour, Floats, Kind
from exporter.model import FAILED_STATUSES, TERMINAL_STATUSES

FINISHED, STOPPED = TERMINAL_STATUSES.index("FINISHED"), TERMINAL_STATUSES.index("STOPPED")
# The number of the first failed status; the others follow as in FAILED_STATUSES.
FAILED = TERMINAL_STATUSES.index(FAILED_STATUSES[0])
SUBMIT_FAILED = TERMINAL_STATUSES.index("SUBMIT_FAILED")
# The frequencies of the error codes of a status; the last is no code ("").
CODE_WEIGHTS = (0.55, 0.3, 0.15)
SPIKE_CODE = 9001
_RUN_SIGMA, _BATCH_SIGMA, _DAY_LONG_SIGMA, _WAIT_SIGMA = 0.6, 0.25, 0.15, 0.7
# The number of runs of a batch that run at the same time.
_BATCH_SLOTS = 100
_SUBMITTED_WITHIN = 3.0
_MOST_RETRIES = 4


@dataclass(frozen=True, eq=False, slots=True)
class Runs:
    """
    Runs as columns.

    Shape: `kind` is the number of the job type, `outcome` that of the status in TERMINAL_STATUSES; `code` is
    0 for none; `batch` is -1 for a run that came singly; `spike` is the number of the spike that a failure
    belongs to, -1 for none.
    Units: times are minutes; `started` is NaN for a run that failed at submit.
    """

    kind: NDArray[np.int8]
    created: Floats
    started: Floats
    ended: Floats
    outcome: NDArray[np.int8]
    code: NDArray[np.int16]
    batch: NDArray[np.int32]
    spike: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.kind)

    def where(self, keep: NDArray[np.bool_]) -> Runs:
        return Runs(*(getattr(self, field.name)[keep] for field in fields(self)))


def concatenate(parts: Sequence[Runs]) -> Runs:
    return Runs(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Runs)))


def draw_runs(rng: np.random.Generator, flavour: Flavour, kinds: Sequence[Kind]) -> Runs:
    """Draw all runs that end before the last minute."""
    parts = [_runs_of(rng, flavour, number, kind) for number, kind in enumerate(kinds)]
    runs = concatenate(parts)
    return runs.where(runs.ended < MINUTES - 1)


def _runs_of(rng: np.random.Generator, flavour: Flavour, number: int, kind: Kind) -> Runs:
    created, batch, rank = _submissions(rng, kind)
    odds = kind.fates[:, _column(created)]
    if flavour == "bursty":
        odds = _shared(rng, odds, batch)
    outcome = _outcomes(rng, odds)
    first = _lived(rng, number, kind, created, outcome, batch, rank)
    if flavour == "even":
        return first
    return concatenate([first, *_retries(rng, number, kind, first)])


def _submissions(rng: np.random.Generator, kind: Kind) -> tuple[Floats, NDArray[np.int32], NDArray[np.int32]]:
    """Draw the times of submission, the batches, and the positions in the batch."""
    if kind.is_slow:
        times = np.flatnonzero(kind.rate) - WARM_UP + rng.normal(0, 20, int(kind.rate.sum()))
        singles = np.full(len(times), -1, np.int32)
        return times, singles, np.zeros(len(times), np.int32)
    batch_begins, sizes = _batches(rng, kind)
    expected = float(kind.rate.sum())
    cron_begins, cron_sizes = _crons(kind)
    singly = kind.rate * (1 - kind.batched) * max(0.0, 1 - cron_sizes.sum() / max(expected, 1.0))
    counts = rng.poisson(singly)
    single = np.repeat(np.arange(-WARM_UP, MINUTES), counts) + rng.random(int(counts.sum()))
    begins, sizes = np.concatenate([batch_begins, cron_begins]), np.concatenate([sizes, cron_sizes])
    batch = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    rank = np.arange(len(batch)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    within = begins[batch] + rng.random(len(batch)) * _SUBMITTED_WITHIN
    return (
        np.concatenate([single, within]),
        np.concatenate([np.full(len(single), -1, np.int32), batch]),
        np.concatenate([np.zeros(len(single), np.int32), rank.astype(np.int32)]),
    )


def _batches(rng: np.random.Generator, kind: Kind) -> tuple[Floats, NDArray[np.int64]]:
    """Draw batches with the type's batched part of its runs: a small type has one every few days."""
    expected = float(kind.rate.sum()) * kind.batched
    least, most = BURSTS.batch_runs
    mean = (most - least) / np.log(most / least)
    count = int(rng.poisson(expected / mean))
    if not count:
        return np.empty(0), np.empty(0, np.int64)
    minutes = rng.choice(len(kind.rate), count, p=kind.rate / kind.rate.sum()) - WARM_UP
    sizes = np.rint(np.exp(rng.uniform(np.log(least), np.log(most), count))).astype(np.int64)
    return minutes.astype(np.float64), sizes


def _crons(kind: Kind) -> tuple[Floats, NDArray[np.int64]]:
    begins = np.arange(-WARM_UP, MINUTES, DAY, dtype=np.float64) + kind.cron_minute
    begins = begins[(begins >= kind.born) & (kind.cron_runs > 0)]
    return begins, np.full(len(begins), kind.cron_runs, np.int64)


def _column(times: Floats) -> NDArray[np.int64]:
    return np.clip(times.astype(np.int64) + WARM_UP, 0, WARM_UP + MINUTES - 1)


def _shared(rng: np.random.Generator, odds: Floats, batch: NDArray[np.int32]) -> Floats:
    """
    Return shares that are the same for all runs of a batch, drawn around the usual ones.

    They are drawn from a Dirichlet distribution: each status' failures in a batch are then beta-binomial,
    with BURSTS.correlation between any two runs.
    """
    _, first, of_run = np.unique(batch, return_index=True, return_inverse=True)
    usual = np.vstack([odds, 1 - odds.sum(axis=0)])[:, first]
    drawn = rng.standard_gamma(usual * (1 / BURSTS.correlation - 1))
    drawn /= drawn.sum(axis=0)
    return np.where(batch >= 0, drawn[:-1, of_run], odds)


def _outcomes(rng: np.random.Generator, odds: Floats) -> NDArray[np.int8]:
    """Draw the final statuses of runs, each by its own shares of the failed ones."""
    drawn = rng.random(odds.shape[1])
    step = (drawn >= np.cumsum(odds, axis=0)).sum(axis=0)
    others = np.where(rng.random(len(drawn)) < WAYS.stopped, STOPPED, FINISHED)
    return np.where(step < len(odds), FAILED + step, others).astype(np.int8)


def _lived(
    rng: np.random.Generator,
    number: int,
    kind: Kind,
    created: Floats,
    outcome: NDArray[np.int8],
    batch: NDArray[np.int32],
    rank: NDArray[np.int32],
) -> Runs:
    """Draw waiting and running times. Later runs of a large batch wait for the first to end."""
    count = len(created)
    wait = kind.wait_minutes * np.exp(rng.normal(0, _WAIT_SIGMA, count))
    wait += rank * kind.run_minutes / _BATCH_SLOTS
    sigma = _DAY_LONG_SIGMA if kind.is_day_long else np.where(batch < 0, _RUN_SIGMA, _BATCH_SIGMA)
    minutes = kind.run_minutes * np.exp(rng.normal(0, sigma, count))
    minutes = np.where(outcome >= FAILED, minutes * rng.uniform(0.05, 1, count), minutes)
    started = np.where(outcome == SUBMIT_FAILED, np.nan, created + wait)
    ended = np.where(outcome == SUBMIT_FAILED, created + wait, created + wait + minutes)
    return Runs(
        np.full(count, number, np.int8),
        created,
        started,
        ended,
        outcome,
        draw_codes(rng, number, outcome),
        batch,
        np.full(count, -1, np.int16),
    )


def draw_codes(
    rng: np.random.Generator, number: int | NDArray[np.int8], outcome: NDArray[np.int8]
) -> NDArray[np.int16]:
    """Draw error codes: each status of a type has two own codes, and failures without a code."""
    which = rng.choice(len(CODE_WEIGHTS), len(outcome), p=CODE_WEIGHTS)
    own = 1000 * (np.asarray(number, np.int64) + 1) + 10 * outcome.astype(np.int64) + which
    has_code = (outcome >= FAILED) & (which < len(CODE_WEIGHTS) - 1)
    return np.where(has_code, own, 0).astype(np.int16)


def _retries(rng: np.random.Generator, number: int, kind: Kind, first: Runs) -> list[Runs]:
    """Run a part of the failed runs again, repeatedly. Those with a broken input mostly fail again."""
    found: list[Runs] = []
    runs, broken = first, rng.random(len(first)) < BURSTS.broken
    for _ in range(_MOST_RETRIES):
        again = (runs.outcome >= FAILED) & (rng.random(len(runs)) < BURSTS.retried)
        if not again.any():
            break
        failed, broken = runs.where(again), broken[again]
        created = failed.ended + rng.uniform(*BURSTS.retry_minutes, len(failed))
        fresh = _outcomes(rng, kind.fates[:, _column(created)])
        same = np.where(rng.random(len(failed)) < BURSTS.broken_fails, failed.outcome, FINISHED)
        outcome = np.where(broken, same, fresh).astype(np.int8)
        singles = np.full(len(failed), -1, np.int32)
        runs = _lived(rng, number, kind, created, outcome, singles, np.zeros(len(failed), np.int32))
        found.append(runs)
    return found


def changed(runs: Runs, rows: NDArray[np.int64], **columns: object) -> Runs:
    """Return the runs with these columns of these rows replaced."""
    new = {}
    for name, values in columns.items():
        column = getattr(runs, name).copy()
        column[rows] = values
        new[name] = column
    return replace(runs, **new)
