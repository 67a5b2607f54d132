"""
How often chance alone exceeds a limit: failures that come evenly and independently, in a window that slides.

Usage: python -m benchmarks.alerts.chance
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import sqrt
from random import Random

from benchmarks.report import show

# The least that the rules ask for, and what increase() adds by stretching to the whole window.
_LEAST = 4.5
_STRETCH = 1.02
_MEANS = (0.25, 0.5, 1, 2, 5, 20)

Limit = Callable[[float], float]


def plain(k: float) -> Limit:
    return lambda mean: max(mean + k * sqrt(mean), _LEAST)


def with_skew(k: float) -> Limit:
    return lambda mean: max(mean + k * sqrt(mean) + (k * k - 1) / 6, _LEAST)


def exceeded_per_year(rng: Random, mean: float, limit: float, windows: float) -> float:
    """
    Count how often a window comes to hold more than `limit`, where `mean` is usual; per year of one series.

    Units: windows of an hour; two excesses less than two hours apart are one.
    """
    at, times, excesses, last = 0.0, deque[float](), 0, -2.0
    while (at := at + rng.expovariate(mean)) < windows:
        times.append(at)
        while times[0] <= at - 1:
            times.popleft()
        if len(times) * _STRETCH > limit:
            excesses += at - last >= 2
            last = at
    return excesses / windows * 24 * 365


def main() -> None:
    """Print how many false alarms a year each limit gives a series, by its failures per hour."""
    rng = Random("chance")
    limits = {f"k={k:g}, {name}": make(k) for k in (5, 4) for name, make in _KINDS.items()}
    rows = []
    for mean in _MEANS:
        windows = 500_000 / max(mean, 1)
        found = (exceeded_per_year(rng, mean, limit(mean), windows) for limit in limits.values())
        rows.append([f"{mean:g}", *(f"{each:.2f}" for each in found)])
    show("False alarms of one series in a year, by chance", ("failures per hour", *limits), rows)


_KINDS: dict[str, Callable[[float], Limit]] = {"plain": plain, "with skew": with_skew}

if __name__ == "__main__":
    main()
