"""
What SqlLedger works with: threads that have connections, and wrap what writes in transactions.

SQLite has one such thread (ledger.thread), PostgreSQL has several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from exporter.ledger.database import Database
from exporter.model import TargetKey

R = TypeVar("R")


@dataclass(slots=True)
class Commit:
    """
    What one caller wants on the disk.

    Shape: `prepare`, where there is any, runs in a transaction of its own before the one of `work`, whose
    result the caller gets; `after` runs once that is on the disk. `rows` is how many rows are staged for it.
    """

    key: TargetKey
    work: Callable[[Database], Any]
    prepare: Callable[[Database], object] | None = None
    after: Callable[[Database, Any], object] = lambda _db, _result: None
    rows: int = 0
    result: Any = None
    future: Future[Any] = field(default_factory=Future)


class Worker(Protocol):
    """Does work for one target in the order in which it comes. Raises: LedgerError."""

    @property
    def is_open(self) -> bool:
        """See sync.ledger.Ledger.is_open."""

    async def opened(self) -> None:
        """See sync.ledger.Ledger.opened."""

    async def run(
        self, work: Callable[[Database], R], key: TargetKey | None = None, *, writes: bool = False
    ) -> R:
        """
        Do some work for one target, or for all. A caller who is cancelled does not stop it.

        Shape: `writes` puts it into a transaction, which need not be on the disk when it ends.
        """

    def submit(
        self, work: Callable[[Database], R], key: TargetKey | None, *, writes: bool = False
    ) -> asyncio.Future[R]:
        """Begin as `run` does."""

    async def commit(self, commit: Commit) -> Any:
        """Put something on the disk; give the result of its work."""

    def drop_waiting(self) -> None:
        """See sync.ledger.Ledger.drop_waiting."""

    async def close(self) -> None:
        """Finish the work under way, and close."""
