"""
Where counting is_first_sync, type by type: pure.

A target has one baseline for all job types, or, where the configuration lists types, one for each. A type
that comes into scope later gets a baseline of its own, so that its past is no spike; one that leaves scope
loses it.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.counting.transitions import Baseline

ALL_TYPES = "*"


@dataclass(frozen=True, slots=True)
class Baselines:
    """
    The baselines of a target.

    Shape: `at_ms` by job type or ALL_TYPES, None where all history counts; `latest_ms` and `is_first_sync` as
    Baseline's.
    """

    at_ms: dict[str, int | None]
    forgotten_before_ms: int | None
    latest_ms: int | None = None
    is_first_sync: bool = False

    def of(self, job_type: str) -> Baseline:
        """Give the baseline that holds for a type."""
        scope = job_type if job_type in self.at_ms else ALL_TYPES
        return Baseline(self.at_ms.get(scope), self.forgotten_before_ms, self.latest_ms, self.is_first_sync)


def rescope(
    known: dict[str, int | None],
    job_types: tuple[str, ...],
    began_ms: int | None,
    forgotten_before_ms: int | None,
) -> Baselines:
    """Give the baselines for the types now in scope; what is new to it begins at `began_ms`."""
    scope = job_types or (ALL_TYPES,)
    kept = {name: known.get(name, known.get(ALL_TYPES)) for name in scope if {name, ALL_TYPES} & known.keys()}
    begun = dict.fromkeys(sorted(set(scope) - kept.keys()), began_ms)
    # Types that were listed one by one keep their own beginning when all types come into scope.
    return Baselines({**(known if not job_types else kept), **begun}, forgotten_before_ms)


def latest(at_ms: dict[str, int | None]) -> int | None:
    """Give the latest of a target's baselines, for people to read; None where all history counts."""
    return max((at for at in at_ms.values() if at is not None), default=None)
