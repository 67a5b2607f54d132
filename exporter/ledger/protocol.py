"""
What the poller needs of a ledger, whatever keeps it.

A poll first *stages* the rows it reads, page by page, then *records* them: one transaction that compares them
with the rows known, counts what has happened since, and moves the listing on. What is staged is nobody's
truth and is gone with the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.model import Job, Target, Totals


@dataclass(frozen=True, slots=True)
class CountingRules:
    """
    How runs become series.

    Units: bounds in seconds, ascending, without +Inf. Shape: at most `max_msg_codes` error codes per target
    get a series of their own, the rest is counted as "other".
    """

    submitting_bounds: tuple[float, ...]
    running_bounds: tuple[float, ...]
    max_msg_codes: int = 50
    count_history: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    """
    How many rows a listing has brought.

    Shape: `in_pass` were seen in its newest pass, `in_all` in any of its passes, `repeated` in the newest and
    the one before.
    """

    in_pass: int
    in_all: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Jobs listed in the ledger that no staged row shows; `terminal` holds no more than was asked for."""

    in_flight: tuple[int, ...]
    terminal: tuple[int, ...]
    terminal_total: int


@dataclass(frozen=True, slots=True)
class Observation:
    """
    One complete poll of a target.

    Units: `began_ms` and `server_now_ms` by the server's clock, `now_ms` by ours; `horizon_ms` is the start
    of the lookback by the server's clock, None for no limit.
    """

    target: Target
    began_ms: int
    server_now_ms: int
    now_ms: int
    horizon_ms: int | None


class Ledger(Protocol):
    """Raises: LedgerError from every method where the record cannot be read or written."""

    async def restore(self, target: Target, rules: CountingRules) -> Totals | None:
        """Give what was last committed of a target, None where nothing ever was."""

    async def begin(self, target: Target) -> None:
        """Forget what is staged of a target."""

    async def stage(self, target: Target, jobs: Sequence[Job], wanted: Sequence[bool], pass_no: int) -> None:
        """Stage the rows of a page; of two copies of a row the one updated later stays, else the newer."""

    async def staged(self, target: Target, first_pass: int, pass_no: int) -> Staged:
        """Count what the passes from `first_pass` to `pass_no` have brought."""

    async def missing(self, target: Target, horizon_ms: int | None, most: int) -> Missing:
        """Name the jobs that should have been listed and were not; `most` terminal ones by id."""

    async def record(self, observation: Observation, rules: CountingRules) -> Totals:
        """Fold what is staged into the record, in one transaction, and give what is to be published."""

    async def close(self) -> None:
        """Finish what is under way and let go of the record."""
