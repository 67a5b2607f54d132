"""What a Prometheus has of the live series, by its HTTP API: labels, first samples, retention, overlaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.backfill.plan import BackfillOptions, BackfillPlan, LiveSeries
from exporter.model import Target, TargetKey


async def find_live_series(
    options: BackfillOptions, targets: Sequence[Target]
) -> Mapping[TargetKey, LiveSeries]:
    """
    Read what Prometheus has of the live series of each target; called first, with `options.prometheus` given.

    Shape: a target without a live series is left out: it takes the labels of the others that Prometheus has
    added, if these are the same for all. `options.labels` choose among several instances.
    Raises: BackfillError (no answer, no Prometheus); ConfigError (--prometheus, --label: what to give).
    """
    raise NotImplementedError


async def check_history(options: BackfillOptions, plan: BackfillPlan) -> Sequence[str]:
    """
    Say what stands against loading these files, a line each: retention, samples that are there already.

    Called once the plan stands, before the API is read. Lines are warnings, which are told before anything is
    written. Raises: BackfillError (no answer); ConfigError (it must not be loaded).
    """
    raise NotImplementedError
