"""
Which series of a target are released: shown with their value, where a new one shows 0 (contract, rule 2).

The ledger's row of a series says so, if it has one. The series that are shown with their job type (every
documented status, no error code) are released together, family by family, since most of them have no row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
from msgspec import structs

from exporter.counting.increments import (
    COMPLETED,
    CREATED,
    FAILURES,
    RERUNS,
    RESOURCE_SECONDS,
    RESOURCE_SUBMITTING,
    RUNNING,
    SUBMITTING,
    bounds_by_family,
)
from exporter.counting.rules import CountingRules
from exporter.model import FAILED_STATUSES, TERMINAL_STATUSES, SeriesKey

# The statuses whose series are shown with their job type, by family. Those of resource specs have no type.
STATUSES_SHOWN: Mapping[str, tuple[str, ...]] = {
    CREATED: ("",),
    COMPLETED: TERMINAL_STATUSES,
    FAILURES: FAILED_STATUSES,
    SUBMITTING: ("",),
    RUNNING: TERMINAL_STATUSES,
    RERUNS: ("",),
    RESOURCE_SUBMITTING: (),
    **dict.fromkeys(RESOURCE_SECONDS, TERMINAL_STATUSES),
}


class Released(msgspec.Struct, frozen=True):
    """
    The job types whose series are released, by family.

    Shape: `bounds` are those of the histograms when their types were released. Other bounds make new
    series, of which none is released.
    """

    types: dict[str, tuple[str, ...]] = {}
    bounds: dict[str, tuple[float, ...]] = {}

    def has(self, family: str, job_type: str) -> bool:
        return job_type in self.types.get(family, ())

    def under(self, rules: CountingRules) -> Released:
        """Give what of this holds for histograms of these bounds."""
        bounds = bounds_by_family(rules)
        changed = {family for family, now in bounds.items() if self.bounds.get(family) != now}
        types = {family: types for family, types in self.types.items() if family not in changed}
        return Released(types, bounds)

    def among(self, job_types: Collection[str]) -> Released:
        """Forget the types that are not shown any more: one that comes back is new again."""
        return structs.replace(
            self,
            types={
                family: tuple(kind for kind in types if kind in job_types)
                for family, types in self.types.items()
            },
        )

    def adding(self, keys: Iterable[SeriesKey]) -> Released:
        """Give this with the job types that some of these keys stand for."""
        types = {family: list(known) for family, known in self.types.items()}
        for key in keys:
            if stands_for_type(key) and not self.has(key.family, key.job_type):
                types.setdefault(key.family, []).append(key.job_type)
        return structs.replace(self, types={family: tuple(known) for family, known in types.items()})


def released_with(key: SeriesKey) -> SeriesKey:
    """Give the key under which a series is held and released: its own, or that of its family and job type."""
    if key.msg_code == "" and key.status in STATUSES_SHOWN[key.family]:
        return SeriesKey(key.family, key.job_type)
    return key


def stands_for_type(key: SeriesKey) -> bool:
    """Tell whether a key stands for all series of a family that are shown with a job type."""
    return key.msg_code == "" and key.status == "" and key.family != RESOURCE_SUBMITTING
