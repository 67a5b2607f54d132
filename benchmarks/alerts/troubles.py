"""What befalls a project and its exporter: spikes of failures, and everything that is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from benchmarks.alerts.life import DAY, Ending, Life
from exporter.model import FAILED_STATUSES, JOB_TYPES

Shape = Literal["burst", "plateau", "ramp", "slow", "all fail"]
Size = Literal["small", "medium", "large"]
SHAPES: tuple[Shape, ...] = ("burst", "plateau", "ramp", "slow", "all fail")
SIZES: tuple[Size, ...] = ("small", "medium", "large")
# Minutes that a spike takes, and its failures: so many times what is usual in that time, and so many more.
MINUTES = {"burst": 2.0, "plateau": 30.0, "ramp": 60.0, "slow": 180.0, "all fail": 60.0}
EXCESS = {"small": (3, 6), "medium": (6, 12), "large": (15, 30)}
_SPACING = 240


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes from `begin` to `end` (exclusive)."""

    begin: float
    end: float

    def __contains__(self, minute: float) -> bool:
        return self.begin <= minute < self.end


@dataclass(frozen=True, slots=True)
class Troubles:
    """When the API and the exporter were away, and when the ledger was lost (with a restart)."""

    api_away: tuple[Span, ...] = ()
    exporter_away: tuple[Span, ...] = ()
    ledger_lost: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Spike:
    """An injected spike."""

    job_type: str
    status: str
    shape: Shape
    size: Size
    span: Span
    failures: tuple[Ending, ...] = field(repr=False)
    has_history: bool = True


def befall(seed: int, days: int) -> Troubles:
    """Draw restarts (about one a day), longer absences (two a week) and one lost ledger."""
    rng = Random(f"troubles {seed}")
    restarts = [_span(rng, days, 1, 4) for _ in range(days)]
    absences = [_span(rng, days, 30, 240) for _ in range(max(1, days // 7))]
    outages = [_span(rng, days, 3, 20) for _ in range(days // 2)]
    outages += [_span(rng, days, 30, 360) for _ in range(max(1, 2 * days // 7))]
    return Troubles(tuple(outages), tuple(restarts + absences), (restarts[-1].begin,))


def _span(rng: Random, days: int, shortest: float, longest: float) -> Span:
    begin = int(rng.random() * (days * DAY - longest))
    return Span(begin, begin + int(rng.uniform(shortest, longest)))


def inject(seed: int, life: Life, first_day: int, days: int, troubles: Troubles) -> list[Spike]:
    """
    Draw spikes some hours apart, outside of troubles, from the first day on, when hardly anything is known.
    """
    rng = Random(f"spikes {seed}")
    begins = [8 * 60.0, 16 * 60.0] if first_day > 1 else []
    begins += [float(begin) for begin in range(first_day * DAY + 60, days * DAY - _SPACING, _SPACING)]
    plan = _plan(rng)
    return [_spike(rng, life, begin, *next(plan)) for begin in begins if _is_calm(begin, troubles)]


def _is_calm(begin: float, troubles: Troubles) -> bool:
    spike = Span(begin - 30, begin + 240)
    spans = (*troubles.api_away, *troubles.exporter_away)
    return not any(span.begin < spike.end and spike.begin < span.end for span in spans)


def _plan(rng: Random) -> Iterator[tuple[str, str, Shape, Size]]:
    """Go through all shapes and sizes again and again; RUN_FAILED is half of them."""
    while True:
        kinds = [(shape, size) for shape in SHAPES for size in SIZES]
        rng.shuffle(kinds)
        for shape, size in kinds:
            status = "RUN_FAILED" if rng.random() < 0.5 else rng.choice(FAILED_STATUSES)
            yield rng.choice(JOB_TYPES), status, shape, size


def _spike(
    rng: Random, life: Life, begin: float, job_type: str, status: str, shape: Shape, size: Size
) -> Spike:
    span = Span(begin, begin + MINUTES[shape])
    times, more = EXCESS[size]
    usual = _usual(life, job_type, status, span)
    count = round(times * usual + more)
    failures = tuple(
        Ending(begin + _moment(rng, shape) * MINUTES[shape], job_type, status, "9001") for _ in range(count)
    )
    return Spike(job_type, status, shape, size, span, failures, begin >= 2 * DAY)


def _usual(life: Life, job_type: str, status: str, span: Span) -> float:
    """Give the mean number of such failures in so long a time, over this hour of all days."""
    hour = int(span.begin // 60 % 24)
    near = {(hour - 1) % 24, hour, (hour + 1) % 24}
    found = sum(
        ending.job_type == job_type and ending.status == status and int(ending.at // 60 % 24) in near
        for ending in life.endings
    )
    last = max((ending.at for ending in life.endings), default=0.0)
    return found / max(1.0, last / DAY) / 180 * (span.end - span.begin)


def _moment(rng: Random, shape: Shape) -> float:
    """Draw when in its span a failure happens, 0 to 1: a ramp's failures come ever faster."""
    return float(rng.random() ** 0.5) if shape == "ramp" else rng.random()


def spoil(life: Life, spikes: list[Spike]) -> Life:
    """
    Add the spikes to a life.

    Where "all fail", the runs of the type that finish then fail as well, so that nothing of it succeeds.
    """
    total = [spike for spike in spikes if spike.shape == "all fail"]
    kept = [_spoilt(ending, total) for ending in life.endings]
    added = [failure for spike in spikes for failure in spike.failures]
    return Life(life.stays, tuple(sorted([*kept, *added], key=lambda ending: ending.at)))


def _spoilt(ending: Ending, spikes: list[Spike]) -> Ending:
    for spike in spikes:
        if ending.job_type == spike.job_type and ending.status == "FINISHED" and ending.at in spike.span:
            return Ending(ending.at, ending.job_type, spike.status, "9001")
    return ending
