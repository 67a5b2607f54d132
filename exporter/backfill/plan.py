"""What a backfill writes: its targets, their labels, and from when to when. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from exporter.counting.rules import CountingRules
from exporter.counting.transitions import Baselines
from exporter.model import Job, Target
from exporter.sync.server_traits import Filters, ServerTraits

DAY_MS = 86_400_000
# Prometheus looks back 5 minutes for a sample. So a series with a longer step has gaps.
LONGEST_STEP_MS = 240_000
FILE_SUFFIX = ".om"


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """
    What the command line asks for.

    Shape: `prometheus` is the base URL of a Prometheus, None without one; `labels` are those given by
    `--label`, which win over those that Prometheus shows. Units: milliseconds; `now_ms` by our own clock.
    """

    now_ms: int
    prometheus: str | None
    labels: Mapping[str, str]
    from_ms: int
    step_ms: int


@dataclass(frozen=True, slots=True)
class LiveSeries:
    """
    What Prometheus has of a target's live series.

    Shape: `labels` are those that Prometheus has added to the exporter's own (`job`, `instance` and others).
    `first_ms` is the time of the first sample of this target, `joined_ms` of those with these labels; None if
    there is none yet.
    """

    labels: Mapping[str, str]
    first_ms: int | None
    joined_ms: int | None


@dataclass(frozen=True, slots=True)
class LiveCounting:
    """
    How a target is counted live, as its ledger says.

    Shape: `baselines` say which runs count. `job_types` and `statuses` are the undocumented ones that have a
    label of their own, `msg_codes` and `resource_specs` likewise. `rows_ahead_ms` is how far the clock of the
    API's rows is ahead of ours. `ran_again` are the jobs created before the baseline that have run again.
    `counted_starts` and `counted_ends` are jobs from before the baseline whose start or end was counted live,
    or will be. `history_ends` are runs without an end time whose end was not counted live, as job and start.
    These three may lack jobs that were created before `tells_from_ms`. `filters` and `server` are what polls
    have found out about the API.
    """

    baselines: Baselines
    rows_ahead_ms: int
    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    msg_codes: frozenset[str] = frozenset()
    resource_specs: frozenset[str] = frozenset()
    ran_again: frozenset[int] = frozenset()
    counted_starts: frozenset[int] = frozenset()
    counted_ends: frozenset[int] = frozenset()
    history_ends: frozenset[tuple[int, int | None]] = frozenset()
    tells_from_ms: int = 0
    filters: Filters = field(default_factory=Filters)
    server: ServerTraits = field(default_factory=ServerTraits)

    def tells_of(self, job: Job) -> bool:
        """Tell whether the ledger records if the start and the end of this job were counted."""
        return job.created_ms >= self.tells_from_ms

    @property
    def baseline_ms(self) -> int | None:
        """
        The earliest baseline, by the clock of the rows; None where all history was counted live.

        From then on the target may have live series. Job types that came into scope later have later ones.
        """
        return min((at_ms for at_ms in self.baselines.at_ms.values() if at_ms is not None), default=None)

    @property
    def began_ms(self) -> int:
        """The earliest baseline by our own clock."""
        return (self.baseline_ms or 0) - self.rows_ahead_ms


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """
    What is written of one target.

    Shape: `labels` are added to each of its series. Units: milliseconds by our own clock. The first sample is
    at `from_ms`, the last one before `until_ms`: the first live sample, or the baseline if no live sample is
    known. The time of each sample but the last one is a multiple of the step.
    """

    target: Target
    live: LiveCounting
    labels: Mapping[str, str]
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """
    What a backfill writes.

    Shape: `lookback_ms` as poll.lookback, None for no limit.
    """

    targets: tuple[TargetPlan, ...]
    rules: CountingRules
    step_ms: int
    lookback_ms: int | None

    @property
    def from_ms(self) -> int:
        return min(plan.from_ms for plan in self.targets)

    @property
    def until_ms(self) -> int:
        return max(plan.until_ms for plan in self.targets)

    @property
    def days(self) -> range:
        """The beginnings of the UTC days that may have samples."""
        return range(self.from_ms // DAY_MS * DAY_MS, self.until_ms, DAY_MS)


@dataclass(frozen=True, slots=True)
class WrittenDay:
    """
    One file: a UTC day of all targets.

    Shape: `name` as `2026-11-01.om`; `counted_ms` has the first sample of the counters of each target, None
    for none. Units: `first_ms` and `last_ms` are the times of its first and last sample.
    """

    name: str
    first_ms: int
    last_ms: int
    counted_ms: tuple[int | None, ...]
    samples: int
    size_bytes: int


def utc_text(at_ms: int) -> str:
    """Write a time for people, to the minute."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def matchers(labels: Mapping[str, str]) -> str:
    """Write the matchers of a selector that finds the series with these labels."""
    return ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())


def file_name(at_ms: int) -> str:
    """Name the file of the UTC day that has this time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d") + FILE_SUFFIX
