"""Failed runs as Python objects, for pages that read them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from exporter.errors import LedgerError
from exporter.model import Run, TargetKey
from exporter.runs import (
    FailedRun,
    FailureGroups,
    HourlyFailures,
    Position,
    RunFilter,
    RunReader,
    Selection,
)


def a_run(job_id: int, **fields: object) -> Run:
    given: dict[str, object] = {
        "job_id": job_id,
        "number": 1,
        "job_type": "FRAME_EXTRACT",
        "status": "RUN_FAILED",
        "msg_code": "3101",
        "msg_error": "out of memory",
        "data_id": "DPK0000001",
        "resource_spec": "1Core_4GiB",
        "created_ms": 1_700_000_000_000,
        "started_ms": 1_700_000_010_000,
        "ended_ms": 1_700_000_050_000,
        "at_ms": 1_700_000_050_000,
        "submitting_ms": 10_000,
        "running_ms": 40_000,
        "failed": True,
    }
    return Run(**(given | fields))  # type: ignore[arg-type]  # spelled by the tests


@dataclass
class FakeRuns:
    """
    Implements runs.RunSource and runs.RunReader.

    Shape: `runs` by target. `hours` and `groups` are its answers to every question, and `asked` is the last
    filter. If `error` is set, reading raises it.
    """

    runs: Mapping[TargetKey, Sequence[Run]] = field(default_factory=dict)
    hours: tuple[HourlyFailures, ...] = ()
    groups: FailureGroups = field(default_factory=FailureGroups)
    asked: RunFilter | None = None
    error: LedgerError | None = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[RunReader]:
        if self.error is not None:
            raise self.error
        yield self

    async def recent_failures(
        self, targets: Sequence[TargetKey], most: int
    ) -> Mapping[TargetKey, tuple[Run, ...]]:
        return {key: tuple(runs)[:most] for key, runs in self.runs.items() if key in targets}

    async def select_failed(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, after: Position | None = None
    ) -> Selection:
        return Selection(())

    async def failed(self, targets: Sequence[TargetKey], keys: Sequence[int]) -> tuple[FailedRun, ...]:
        return ()

    async def failure_groups(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, most_ids: int = 500
    ) -> FailureGroups:
        self.asked = which
        return self.groups

    async def last_hour(
        self, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
    ) -> tuple[HourlyFailures, ...]:
        return tuple(hour for hour in self.hours if hour.target in targets)
