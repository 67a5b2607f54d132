"""
Spikes of failures, injected into the runs of a life.

A spike either makes runs fail that would have finished (an outage, a ratio), or adds failed runs (a burst).
It is injected only if it has many more failures than are usual for those runs and that time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import sqrt
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.project import DAY, DAYS, MINUTES, WARM_UP, Floats, Kind, Pauses
from benchmarks.alerts.runs import (
    FAILED,
    FINISHED,
    SPIKE_CODE,
    SUBMIT_FAILED,
    Runs,
    changed,
    concatenate,
    draw_codes,
)
from exporter.model import FAILED_STATUSES, TERMINAL_STATUSES

Shape = Literal[
    "first-day outage",
    "outage",
    "same again next day",
    "ratio 20 %",
    "ratio 40 %",
    "burst of 30",
    "second burst",
    "burst of 8",
    "slow type",
    "gradual",
    "four each half hour",
    "project fails at submit",
    "few in each type",
    "inside API pause",
]
SHAPES: tuple[Shape, ...] = get_args(Shape)
_SLOT = DAY // 2
_JITTER = 4 * 60
_TRIES = 40
_OWN_CODE = 0.6
_MOST_SPIKES = 17


@dataclass(frozen=True, slots=True)
class Spike:
    """
    An injected spike: one incident.

    Shape: `series` are its job types and statuses. `begin` is its first failure. `end` is its last one or,
    for a spike in a pause of the API, the end of the pause.
    """

    shape: Shape
    series: frozenset[tuple[str, str]]
    begin: float
    end: float
    failures: int

    @property
    def is_slow(self) -> bool:
        return self.shape == "slow type"

    @property
    def is_diffuse(self) -> bool:
        return self.shape == "few in each type"


@dataclass(frozen=True, slots=True)
class _Change:
    """A spike as changes of the runs: rows that fail instead of finishing, and additional failed runs."""

    rows: NDArray[np.int64]
    kinds: NDArray[np.int8]
    times: Floats
    usual: float

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.times)


_NO_ROWS = np.empty(0, np.int64)
_NO_KINDS = np.empty(0, np.int8)
_NO_TIMES = np.empty(0)


_Made = tuple[_Change, int] | None


class Injector:
    """Injects one spike after the other into the runs."""

    def __init__(self, rng: np.random.Generator, kinds: Sequence[Kind], pauses: Pauses, runs: Runs) -> None:
        self._rng = rng
        self._kinds = kinds
        self._pauses = pauses
        self.runs = runs
        self.spikes: list[Spike] = []
        # The unchanged runs: the failures of one spike are not part of the usual ones for the next.
        self._calm = runs
        self._order = np.argsort(runs.ended, kind="stable")
        self._ended = runs.ended[self._order]

    def inject(self) -> None:
        """Give each shape its own slot of half a day, and repeat the shapes while slots are left."""
        slots = list(self._rng.permutation(np.arange(2, 2 * DAYS - 1)))
        self._first_day()
        self._slow()
        self._inside_pause()
        outage_slot = next(slot for slot in slots if slot + 2 in slots)
        taken = {outage_slot, outage_slot + 2}
        free = iter([slot for slot in slots if slot not in taken])
        self._twice_a_day_apart(int(outage_slot) * _SLOT)
        self._burst_twice(int(next(free)) * _SLOT)
        makers: list[tuple[Shape, Callable[[float], _Made]]] = [
            ("ratio 20 %", lambda at: self._ratio(at, 180, 0.2, 12)),
            ("ratio 40 %", lambda at: self._ratio(at, 180, 0.4, 10)),
            ("burst of 8", self._burst_of_8),
            ("gradual", self._gradual),
            ("four each half hour", self._four_each_half_hour),
            ("project fails at submit", self._submit),
            ("few in each type", self._diffuse),
        ]
        for shape, make in cycle(makers):
            slot = next(free, None)
            if slot is None or len(self.spikes) >= _MOST_SPIKES:
                break
            self._try(shape, int(slot) * _SLOT, make)

    def _try(
        self,
        shape: Shape,
        slot: float,
        make: Callable[[float], _Made],
        jitter: float = _JITTER,
    ) -> Spike | None:
        """Draw begins in the slot until one gives a spike."""
        for _ in range(_TRIES):
            begin = slot + self._rng.random() * jitter
            if made := make(begin):
                change, status = made
                if not self._is_paused(change):
                    return self._apply(shape, change, status)
        return None

    def _is_paused(self, change: _Change) -> bool:
        begin, end = self._limits(change)
        return any(span.begin - 10 < end + 30 and begin - 10 < span.end for span in self._pauses.api)

    def _limits(self, change: _Change) -> tuple[float, float]:
        times = np.concatenate([self._calm.ended[change.rows], change.times])
        return float(times.min()), float(times.max())

    def _apply(self, shape: Shape, change: _Change, status: int, end: float = 0.0) -> Spike:
        begin, last = self._limits(change)
        number, runs = len(self.spikes), self.runs
        spoilt = np.full(len(change.rows), status, np.int8)
        runs = changed(
            runs,
            change.rows,
            outcome=spoilt,
            code=self._codes(runs.kind[change.rows], spoilt),
            spike=np.full(len(change.rows), number, np.int16),
        )
        if status == SUBMIT_FAILED:
            runs = changed(runs, change.rows, started=np.nan)
        kinds = [*runs.kind[change.rows], *change.kinds]
        self.runs = concatenate([runs, self._added(change, status, number)])
        name = TERMINAL_STATUSES[status]
        series = frozenset((self._kinds[kind].job_type, name) for kind in kinds)
        self.spikes.append(Spike(shape, series, begin, max(last, end), change.count))
        return self.spikes[-1]

    def _added(self, change: _Change, status: int, number: int) -> Runs:
        count = len(change.times)
        outcome = np.full(count, status, np.int8)
        started = np.full(count, np.nan) if status == SUBMIT_FAILED else change.times - 2
        return Runs(
            change.kinds,
            change.times - 3,
            started,
            change.times,
            outcome,
            self._codes(change.kinds, outcome),
            np.full(count, -1, np.int32),
            np.full(count, number, np.int16),
        )

    def _codes(self, kinds: NDArray[np.int8], outcome: NDArray[np.int8]) -> NDArray[np.int16]:
        if self._rng.random() < _OWN_CODE:
            return np.full(len(kinds), SPIKE_CODE, np.int16)
        return draw_codes(self._rng, kinds, outcome)

    def _status(self) -> int:
        """Draw a failed status: RUN_FAILED is half of them."""
        return FAILED + (1 if self._rng.random() < 0.5 else int(self._rng.integers(len(FAILED_STATUSES))))

    def _pick(self, begin: float) -> int:
        """Draw a type, with the root of its rate at that time as the weight."""
        weights = np.sqrt([self._rate(kind, begin) for kind in self._kinds])
        if not weights.sum():
            return 0
        return int(self._rng.choice(len(weights), p=weights / weights.sum()))

    def _rate(self, kind: Kind, begin: float) -> float:
        return 0.0 if kind.is_slow or kind.is_day_long else float(kind.rate[WARM_UP + int(begin)])

    def _window(self, begin: float, minutes: float, kind: int | None = None) -> NDArray[np.int64]:
        """Return the rows of runs that end in that time, of one type or all."""
        low, high = np.searchsorted(self._ended, [begin, begin + minutes])
        rows = self._order[low:high]
        return rows if kind is None else rows[self._calm.kind[rows] == kind]

    def _usual(self, rows: NDArray[np.int64], status: int) -> float:
        """Return how many of these runs usually fail with this status."""
        minutes = self._calm.ended[rows].astype(np.int64) + WARM_UP
        kinds = self._calm.kind[rows]
        shares = (
            self._kinds[kind].shares[status - FAILED, at] for kind, at in zip(kinds, minutes, strict=True)
        )
        return float(sum(shares))

    def _outage(
        self,
        begin: float,
        minutes: float = 60,
        kind: int | None = None,
        status: int | None = None,
        least: int = 8,
    ) -> _Made:
        """Make all runs of a type fail that would have finished."""
        kind = self._pick(begin) if kind is None else kind
        status = self._status() if status is None else status
        rows = self._window(begin, minutes, kind)
        usual = self._usual(rows, status)
        rows = rows[self._calm.outcome[rows] == FINISHED]
        change = _Change(rows, _NO_KINDS, _NO_TIMES, usual)
        return (change, status) if _is_spike(change, least) else None

    def _ratio(self, begin: float, minutes: float, part: float, least: int) -> _Made:
        """Make this part of a type's runs fail."""
        kind, status = self._pick(begin), self._status()
        return self._raised(begin, minutes, kind, status, lambda times: np.full(len(times), part), least)

    def _gradual(self, begin: float) -> _Made:
        """Make an increasing part of a type's runs fail, up to 60 % after six hours."""
        kind, status = self._pick(begin), self._status()
        return self._raised(begin, 360, kind, status, lambda times: 0.6 * (times - begin) / 360, 12)

    def _raised(
        self,
        begin: float,
        minutes: float,
        kind: int,
        status: int,
        part: Callable[[Floats], Floats],
        least: int,
    ) -> _Made:
        rows = self._window(begin, minutes, kind)
        usual = self._usual(rows, status)
        times = self._calm.ended[rows]
        shares = self._kinds[kind].shares[:, times.astype(np.int64) + WARM_UP]
        chance = (part(times) - shares[status - FAILED]) / np.maximum(1 - shares.sum(axis=0), 0.1)
        fails = (self._rng.random(len(rows)) < chance) & (self._calm.outcome[rows] == FINISHED)
        change = _Change(rows[fails], _NO_KINDS, _NO_TIMES, usual)
        return (change, status) if _is_spike(change, least) else None

    def _burst(
        self, begin: float, count: int, minutes: float = 5, kind: int | None = None, status: int | None = None
    ) -> _Made:
        """Add failed runs of an active type: a user submits runs that cannot work."""
        kind = self._pick(begin) if kind is None else kind
        status = self._status() if status is None else status
        if not self._rate(self._kinds[kind], begin):
            return None
        times = np.sort(begin + self._rng.random(count) * minutes)
        usual = self._usual(self._window(begin, max(minutes, 30), kind), status)
        change = _Change(_NO_ROWS, np.full(count, kind, np.int8), times, usual)
        return (change, status) if _is_spike(change, count) else None

    def _burst_of_8(self, begin: float, kind: int | None = None, status: int | None = None) -> _Made:
        return self._burst(begin, 8, 5, kind, status)

    def _four_each_half_hour(self, begin: float) -> _Made:
        kind, status = self._pick(begin), self._status()
        if not self._rate(self._kinds[kind], begin):
            return None
        times = np.sort(begin + np.repeat(np.arange(8) * 30, 4) + self._rng.random(32) * 30)
        usual = self._usual(self._window(begin, 240, kind), status)
        change = _Change(_NO_ROWS, np.full(32, kind, np.int8), times, usual)
        return (change, status) if _is_spike(change, 32) else None

    def _submit(self, begin: float) -> _Made:
        """Make all runs fail that the project submits in an hour, when they would have started."""
        created = self._calm.created
        inside = (created >= begin) & (created < begin + 60) & (self._calm.outcome == FINISHED)
        rows = np.flatnonzero(inside & (self.runs.spike[: len(created)] < 0))
        kinds = self._calm.kind[rows]
        times = created[rows] + 0.5
        usual = self._usual(self._window(begin, 60), SUBMIT_FAILED)
        change = _Change(_NO_ROWS, kinds, times, usual)
        if not _is_spike(change, 8) or len(set(kinds.tolist())) < 2 or self._is_paused(change):
            return None
        self._drop(rows)
        return change, SUBMIT_FAILED

    def _drop(self, rows: NDArray[np.int64]) -> None:
        """Mark runs that no longer run; `inject` removes them at the end."""
        self.runs = changed(self.runs, rows, ended=np.inf)

    def _diffuse(self, begin: float) -> _Made:
        """Add three or four failures within an hour in each of six types, or of all if there are fewer."""
        status = self._status()
        usual_kinds = [n for n, kind in enumerate(self._kinds) if self._rate(kind, begin)]
        kinds = self._rng.permutation(usual_kinds)[:6]
        if len(kinds) < 4:
            return None
        each = np.repeat(kinds, self._rng.integers(3, 5, len(kinds))).astype(np.int8)
        times = begin + self._rng.random(len(each)) * 60
        usual = self._usual(self._window(begin, 60), status)
        change = _Change(_NO_ROWS, each, times, usual)
        # A diffuse spike may stand out less than one of a single type.
        return (change, status) if len(each) >= max(usual, 3.5 * sqrt(usual) + 2) else None

    def _first_day(self) -> None:
        self._try("first-day outage", 7 * 60, self._outage, 12 * 60)

    def _slow(self) -> None:
        """Make all runs of a type with three a day fail for three days."""
        slow = [number for number, kind in enumerate(self._kinds) if kind.is_slow]
        for _ in range(_TRIES if slow else 0):
            begin = float(self._rng.integers(3, DAYS - 4)) * DAY + self._rng.random() * DAY
            if made := self._outage(begin, 3 * DAY, slow[0], least=5):
                self._apply("slow type", *made)
                return

    def _inside_pause(self) -> None:
        """Make a type fail for up to an hour during a pause of the API: all failures appear after it."""
        pause = self._pauses.spiked
        for _ in range(_TRIES):
            made = self._outage(pause.begin + 10, 60)
            made = made or self._burst(pause.begin + 10 + self._rng.random() * 30, 15, 30)
            if made:
                self._apply("inside API pause", *made, end=self._pauses.over(pause.end))
                return

    def _twice_a_day_apart(self, slot: float) -> None:
        """Make a type fail for an hour and again a day later; with too few runs, add bursts of eight."""
        first = self._try("outage", slot, self._outage)
        again = self._outage if first else self._burst_of_8
        first = first or self._try("burst of 8", slot, self._burst_of_8)
        if first:
            kind, status = self._of(first)
            self._try(
                "same again next day",
                first.begin + DAY - 90,
                lambda at: again(at, kind=kind, status=status),
                180,
            )

    def _burst_twice(self, slot: float) -> None:
        """Add a burst of 30, and another one of 20 half an hour to an hour after it."""
        first = self._try("burst of 30", slot, lambda at: self._burst(at, 30))
        if first:
            kind, status = self._of(first)
            self._try("second burst", first.end + 30, lambda at: self._burst(at, 20, 5, kind, status), 30)

    def _of(self, spike: Spike) -> tuple[int, int]:
        ((job_type, status),) = spike.series
        return [kind.job_type for kind in self._kinds].index(job_type), TERMINAL_STATUSES.index(status)


def _is_spike(change: _Change, least: int) -> bool:
    """Tell whether this is a spike: clearly more failures than are usual for those runs."""
    return change.count >= max(least, 1.5 * change.usual, 5 * sqrt(change.usual) + 2)


def inject(
    rng: np.random.Generator, kinds: Sequence[Kind], pauses: Pauses, runs: Runs
) -> tuple[Runs, tuple[Spike, ...]]:
    """Inject spikes. Returns the runs, and the spikes in the order of their numbers in `Runs.spike`."""
    injector = Injector(rng, kinds, pauses, runs)
    injector.inject()
    kept = injector.runs.where(injector.runs.ended < MINUTES - 1)
    return kept, tuple(injector.spikes)
