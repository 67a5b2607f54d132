"""
When jobs arrive, and of which type: a random process whose rate follows the hour of the day.

Pure: the random source comes in with every call. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate
from math import cos, pi
from random import Random

from exporter.simulator.profiles import Profile

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HISTORY_MS = 30 * DAY_MS


class Arrivals:
    """The rate of arrivals, constant within an hour of the day, around a mean of `jobs_per_day`."""

    def __init__(self, profiles: tuple[Profile, ...], jobs_per_day: float) -> None:
        self._profiles = profiles
        self._mean_per_ms = jobs_per_day / DAY_MS
        self._shares = [list(accumulate(_rates(profiles, hour))) for hour in range(24)]
        mean = sum(profile.share for profile in profiles)
        self._level = [shares[-1] / mean for shares in self._shares]
        self._peak = max(self._level)

    def next_ms(self, rng: Random, after_ms: int) -> int | None:
        """Draw the time of the next arrival; None where none ever comes."""
        if not self._mean_per_ms:
            return None
        at = float(after_ms)
        while True:
            at += rng.expovariate(self._mean_per_ms * self._peak)
            if self._is_kept(rng, int(at)):
                return int(at) + 1

    def profile_at(self, rng: Random, at_ms: int) -> Profile:
        """Draw the type of a job that arrives at this hour."""
        shares = self._shares[_hour(at_ms)]
        return self._profiles[bisect_right(shares, rng.random() * shares[-1])]

    def history(self, rng: Random, count: int, until_ms: int) -> array[int]:
        """
        Draw the creation times of `count` jobs of the last 30 days, ascending.

        A quarter is spread over all of the 30 days, so that old jobs are always there; the others came at the
        rate at which jobs will go on arriving.
        """
        natural_ms = (count - count // 4) / self._mean_per_ms if self._mean_per_ms else HISTORY_MS
        recent_ms = min(natural_ms, HISTORY_MS)
        old = [self._past(rng, until_ms, HISTORY_MS) for _ in range(count // 4)]
        recent = [self._past(rng, until_ms, recent_ms) for _ in range(count - count // 4)]
        return array("q", sorted(old + recent))

    def _past(self, rng: Random, until_ms: int, span_ms: float) -> int:
        while True:
            at_ms = until_ms - int(rng.random() * span_ms)
            if self._is_kept(rng, at_ms):
                return at_ms

    def _is_kept(self, rng: Random, at_ms: int) -> bool:
        return rng.random() * self._peak < self._level[_hour(at_ms)]


def _rates(profiles: tuple[Profile, ...], hour: int) -> list[float]:
    """Return each type's rate at an hour: its share, on a cosine with the peak at its hour."""
    return [
        profile.share * (1 + profile.swing * cos(2 * pi * (hour - profile.peak_hour) / 24))
        for profile in profiles
    ]


def _hour(at_ms: int) -> int:
    return at_ms // HOUR_MS % 24
