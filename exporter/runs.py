"""
What can be asked of the single runs that a ledger keeps, and the answers.

A ledger keeps failed runs for 24 hours: at least the latest 500 of a target, at most 10,000. All runs that
ended are counted by the hour, for 7 days.
Units: times of runs are `Run.at_ms`, by our own clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from exporter.model import Run, TargetKey


@dataclass(frozen=True, slots=True)
class RunFilter:
    """
    Which runs are meant: those that fit everything that is given.

    Shape: None asks for all; `project` and `workspace` are the labels; `msg_code` "" asks for runs without a
    code.
    Units: `since_ms` keeps the runs that ended at that time or later.
    """

    project: str | None = None
    workspace: str | None = None
    job_type: str | None = None
    status: str | None = None
    msg_code: str | None = None
    job_id: int | None = None
    since_ms: int | None = None

    def fits_target(self, target: TargetKey) -> bool:
        return self.project in (None, target.project) and self.workspace in (None, target.workspace)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """
    Where a failed run stands in the order of all of a ledger, which ends with the newest.

    Shape: `target` is a target's number in the ledger.
    """

    at_ms: int
    target: int
    job_id: int
    number: int

    def __str__(self) -> str:
        return f"{self.at_ms}.{self.target}.{self.job_id}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str` wrote. Raises: ValueError."""
        parts = text.split(".")
        if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
            raise ValueError("expected the `next` of an answer")
        position = cls(*map(int, parts))
        if max(position.at_ms, position.target, position.job_id, position.number) >= 2**63:
            raise ValueError("expected the `next` of an answer")
        return position


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A failed run, and whose it is."""

    target: TargetKey
    run: Run


@dataclass(frozen=True, slots=True)
class KnownRun:
    """
    What a ledger knows of a run that has ended or is under way.

    Shape: as model.Run. None is what the ledger does not know: code and message are kept of failed runs only,
    and for a while. `at_ms` is None for a run that is under way.
    """

    job_id: int
    number: int
    job_type: str
    status: str
    msg_code: str | None
    msg_error: str | None
    data_id: str | None
    resource_spec: str | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    at_ms: int | None
    submitting_ms: int | None
    running_ms: int | None


@dataclass(frozen=True, slots=True)
class Selection:
    """
    The failed runs that one answer is made of, the newest first; each is read when it is needed.

    Shape: `keys` are the ledger's own, for RunReader.failed; `last` is the position of the last of them where
    more follow, else None.
    """

    keys: Sequence[int]
    last: Position | None = None


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """
    Failed runs of one target that are alike: same job type, status, code and message.

    Shape: `job_ids` are the jobs of the newest of them, each once, the newest first, at most as many as asked
    for; `runs` counts all. Units: `first_ms` and `last_ms` are the `at_ms` of the earliest and the latest.
    """

    target: TargetKey
    job_type: str
    status: str
    msg_code: str
    message: str
    runs: int
    first_ms: int
    last_ms: int
    job_ids: tuple[int, ...]

    @property
    def project(self) -> str:
        return self.target.project

    @property
    def workspace(self) -> str:
        return self.target.workspace


@dataclass(frozen=True, slots=True)
class FailureGroups:
    """
    Failed runs by group, the largest group first.

    Shape: `runs` are all that fit the filter, `left_out` how many groups are not in `groups`.
    """

    groups: tuple[FailureGroup, ...] = ()
    runs: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class FailuresOfAnHour:
    """
    One target's failed runs of the last hour.

    Shape: `kinds` counts them by job type and code, the most frequent kinds at least; `usual` is the mean per
    hour, as RunReader.usual_failures_per_hour gives it; `ended` are all runs that ended in this hour of the
    clock and in the one before.
    """

    target: TargetKey
    runs: int
    usual: float | None
    kinds: Mapping[tuple[str, str], int]
    ended: int = 0


class RunReader(Protocol):
    """
    Answers questions about the runs of some targets; those that the ledger does not have are passed over.

    Raises: LedgerError from every method where the ledger cannot be read.
    """

    async def select_failed(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, after: Position | None = None
    ) -> Selection:
        """Select failed runs, the newest first; with `after` only those that are older than that one."""

    async def failed(self, targets: Sequence[TargetKey], keys: Sequence[int]) -> tuple[FailedRun, ...]:
        """Read some of a selection, in its order; those forgotten since are left out."""

    async def failure_groups(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, most_ids: int = 500
    ) -> FailureGroups:
        """Group failed runs; give the largest groups, `most` of them at most."""

    async def usual_failures_per_hour(
        self, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
    ) -> float | None:
        """
        Give how many runs usually fail in an hour: the mean of the last 7 days, without the last hour.

        The ledger counts by the hour of the clock, so the hour before the current one is left out as well.


        None before there is one day to tell it from, and for a filter by code or id, which is not counted.
        A target that was not polled for a day yet does not count. `since_ms` is of no effect.
        """

    async def last_hour(
        self, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
    ) -> tuple[FailuresOfAnHour, ...]:
        """
        Count the failed runs of the last hour, of every target that the ledger has.

        Of the filter the job type and the status count: of these it is known how many are usual.
        """

    async def recent_failures(
        self, targets: Sequence[TargetKey], most: int
    ) -> Mapping[TargetKey, tuple[Run, ...]]:
        """Give the latest failed runs of each target, the newest first, `most` of each."""


class RunSource(Protocol):
    """Where readers come from: the ledger."""

    def reading(self) -> AbstractAsyncContextManager[RunReader]:
        """
        Give a reader that looks on while the ledger is written to.

        Raises: LedgerError where the ledger cannot be read.
        """
