"""
When users submit jobs, and of which type: a random process whose rate follows the hour of the day.

Pure: the random source comes in with every call. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate
from math import cos, pi
from operator import mul
from random import Random

from exporter.simulator.profiles import Profile
from exporter.simulator.seasons import DAY_MS, HOUR_MS
from exporter.simulator.submissions import Users

HISTORY_MS = 30 * DAY_MS
_NO_CYCLE = 2**62


class Arrivals:
    """
    The rate at which users submit, constant within an hour, around a mean of `jobs_per_day`.

    A batch is submitted once, whatever its size. What the timetables submit does not come from here.
    """

    def __init__(
        self, profiles: tuple[Profile, ...], jobs_per_day: float, users: Users | None = None
    ) -> None:
        users = users or Users({}, None)
        seasons = users.seasons
        self._profiles = profiles
        self._mean_per_ms = jobs_per_day / DAY_MS
        self._mean = sum(profile.share for profile in profiles)
        self._shares = _Hours(profiles, users)
        # Without seasons all days are alike, and one is enough to look up.
        self._cycle = _NO_CYCLE if seasons else 24
        self._peak = max(shares[-1] for shares in map(self._shares.without_seasons, range(24))) / self._mean
        if seasons:
            self._peak *= seasons.highest

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
        shares = self._shares[at_ms // HOUR_MS % self._cycle]
        return self._profiles[bisect_right(shares, rng.random() * shares[-1])]

    def history(self, rng: Random, count: int, until_ms: int) -> array[int]:
        """
        Draw the creation times of `count` jobs of the last 30 days, ascending.

        A quarter is spread over all of the 30 days, so that old jobs are always there; the others came at the
        rate at which jobs will go on arriving.
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
        shares = self._shares[at_ms // HOUR_MS % self._cycle]
        return rng.random() * self._peak < shares[-1] / self._mean


class _Hours(dict[int, list[float]]):
    """
    The rates of all types up to each, by the hour: filled as they are asked for.

    A type's rate is its share, on a cosine with the peak at its hour.
    """

    def __init__(self, profiles: tuple[Profile, ...], users: Users) -> None:
        super().__init__()
        self._profiles = profiles
        self._parts = [users.submissions_per_job(profile) for profile in profiles]
        self._seasons = users.seasons

    def __missing__(self, hour: int) -> list[float]:
        rates = self._rates(hour)
        if self._seasons is not None:
            factors = [self._seasons.rate(profile, hour * HOUR_MS) for profile in self._profiles]
            rates = list(map(mul, rates, factors))
        self[hour] = list(accumulate(rates))
        return self[hour]

    def without_seasons(self, hour: int) -> list[float]:
        """Return the rates of an hour of the day, summed up, as on a day like any other."""
        return list(accumulate(self._rates(hour)))

    def _rates(self, hour: int) -> list[float]:
        return [
            profile.share * (1 + profile.swing * cos(2 * pi * (hour - profile.peak_hour) / 24)) * part
            for profile, part in zip(self._profiles, self._parts, strict=True)
        ]
