"""How much a backfill will take, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from exporter.backfill.history import RESOURCE_JOBS, SpooledMoment, TargetHistory
from exporter.backfill.openmetrics import FAMILIES, SPEC_FAMILIES, line_heads, spec_heads
from exporter.backfill.past import PastKind, PastMoment
from exporter.backfill.plan import BackfillPlan, TargetPlan
from exporter.model import Job, SeriesKey

# Enough, unless a server gives every run another error code: then the estimate is too low.
_MOST_KINDS = 20_000
_TAIL_BYTES = len(" 1764201600\n")
# The estimate has the first value of a series; later values have more digits.
_MORE_DIGITS = 2


@dataclass(slots=True)
class TargetEstimate:
    """
    How much is written of a target.

    Shape: `counted` is the exact number of creations, starts and ends that the counters get. The other
    numbers are estimates. `first_ms` is the time of the first moment, None for none.
    """

    counted: dict[PastKind, int] = field(default_factory=lambda: dict.fromkeys(PastKind, 0))
    series: int = 0
    samples: int = 0
    size_bytes: int = 0
    first_ms: int | None = None


class Estimator:
    """
    Finds out when each series begins.

    Of all moments that add to the same series, it keeps the earliest.
    """

    def __init__(self, plan: BackfillPlan) -> None:
        self._plan = plan
        self._targets = [TargetEstimate() for _ in plan.targets]
        self._first: list[dict[tuple[object, ...], SpooledMoment]] = [{} for _ in plan.targets]

    def add(self, target: int, job: Job, moments: Sequence[PastMoment], *, failed: bool) -> None:
        """Add the moments of a job; `target` is the number of its target in the plan."""
        counted, first = self._targets[target].counted, self._first[target]
        for moment in moments:
            counted[moment.kind] += moment.counted
            kind: tuple[object, ...] = (moment.kind, moment.counted, moment.shown, job.job_type)
            kind = (*kind, job.resource_spec)
            if moment.kind >= PastKind.ENDED:
                kind = (*kind, job.status, job.msg_code, failed)
            known = first.get(kind)
            if known is None:
                if len(first) < _MOST_KINDS:
                    first[kind] = job, moment, failed
            elif moment.at_ms < known[1].at_ms:
                first[kind] = job, moment, failed

    def targets(self) -> list[TargetEstimate]:
        """Give the estimates of the targets of the plan, from the moments added so far."""
        for plan, estimate, first in zip(self._plan.targets, self._targets, self._first, strict=True):
            history = TargetHistory(plan, self._plan)
            estimate.series = estimate.samples = estimate.size_bytes = 0
            estimate.first_ms = min((moment.at_ms for _, moment, _ in first.values()), default=None)
            known: set[SeriesKey] = set()
            specs: set[str] = set()
            for spooled in sorted(first.values(), key=lambda one: (one[1].at_ms, one[1].kind)):
                values = history.add([spooled])
                for key in values.keys() - known:
                    lines = line_heads(FAMILIES[key.family], plan, key, values[key])
                    if key.family == RESOURCE_JOBS and key.resource_spec not in specs:
                        specs.add(key.resource_spec)
                        for family in SPEC_FAMILIES:
                            lines += spec_heads(family, plan, key.resource_spec)
                    self._add_series(plan, estimate, spooled[1].at_ms, lines)
                known |= values.keys()
        return self._targets

    def _add_series(
        self, plan: TargetPlan, estimate: TargetEstimate, begin_ms: int, lines: Sequence[str]
    ) -> None:
        """Add the series of these lines, which have samples from a time on."""
        steps = (plan.until_ms - begin_ms) // self._plan.step_ms + 2
        line_bytes = sum(len(line.encode()) + _MORE_DIGITS + _TAIL_BYTES for line in lines)
        estimate.series += len(lines)
        estimate.samples += steps * len(lines)
        estimate.size_bytes += steps * line_bytes
