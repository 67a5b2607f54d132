"""
How rates and failed shares change from day to day: weekends, drift, and types that are new.

Pure: the random sources are seeded here, so that looking does not change what comes. Days begin at midnight
UTC. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from math import exp
from random import Random

from exporter.simulator.profiles import Profile

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MOST_DRIFT = 2.0
# What is left of a drift on the next day: so it does not stay at its limits for weeks.
_KEPT = 0.9
# 1970-01-01 was a Thursday.
_WEEKEND = (2, 3)


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
        while len(self._factors) <= day - self._first_day:
            drifted = self._factors[-1] ** _KEPT * exp(self._rng.gauss(0, self._sigma))
            self._factors.append(min(max(drifted, 1 / MOST_DRIFT), MOST_DRIFT))
        return self._factors[day - self._first_day]


class Seasons:
    """
    The factors by type and time.

    Shape: `first_ms` gives the time before which no job of a type is submitted, for the types that have one;
    `highest` is more than any factor of a rate. The walks begin at `begin_ms`.
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

    def is_there(self, profile: Profile, at_ms: int) -> bool:
        """Tell whether jobs of this type are submitted at all by then."""
        return at_ms >= self._first_ms.get(profile.job_type, at_ms)

    def rate(self, profile: Profile, at_ms: int) -> float:
        """Return the type's rate as a part of its usual one."""
        if not self.is_there(profile, at_ms):
            return 0.0
        day = at_ms // DAY_MS
        weekend = profile.habits.weekend if day % 7 in _WEEKEND else 1.0
        return weekend * self._rates[profile.job_type].on(day)

    def share(self, profile: Profile, day: int) -> float:
        """Return the type's failed share on a day, as a part of its usual one."""
        walk = self._shares.get(profile.job_type)
        return walk.on(day) if walk else 1.0
