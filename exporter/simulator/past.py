"""
What the jobs were some seconds ago: for replicas, indexes and totals that lag.

Every change of a row is kept for a while; to look back, those that are too new are undone, and done again
afterwards. Pure but for its memory: the real time comes from a clock that is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from exporter.simulator.listing import Listing
from exporter.simulator.quirks import MAX_LAG_SECONDS
from exporter.simulator.table import Cells, Table


class _Change(NamedTuple):
    at: float
    job_id: int
    before: Cells
    after: Cells


class Past:
    """
    The last changes of all jobs.

    Units: `clock` gives real seconds that only go forward.
    """

    def __init__(self, table: Table, listings: list[Listing], clock: Callable[[], float]) -> None:
        self._table = table
        self._listings = listings
        self._clock = clock
        self._changes: deque[_Change] = deque()

    def note(self, job_id: int, before: Cells) -> None:
        """Keep what the job was before the change that it has just gone through."""
        now = self._clock()
        self._changes.append(_Change(now, job_id, before, self._table.cells(job_id)))
        while self._changes[0].at < now - MAX_LAG_SECONDS:
            self._changes.popleft()

    def is_settled(self, lag_seconds: float) -> bool:
        """Tell whether nothing changed for so long, so that old and new states are the same."""
        return not self._changes or self._changes[-1].at <= self._clock() - lag_seconds

    @contextmanager
    def seen(self, lag_seconds: float) -> Iterator[None]:
        """Let the table and the listings be as they were that long ago."""
        if lag_seconds <= 0:
            yield
            return
        since = self._clock() - lag_seconds
        undone: list[_Change] = []
        for change in reversed(self._changes):
            if change.at <= since:
                break
            undone.append(change)
            self._put(change.job_id, change.before)
        try:
            yield
        finally:
            for change in reversed(undone):
                self._put(change.job_id, change.after)

    @contextmanager
    def without(self, job_ids: Iterable[int]) -> Iterator[None]:
        """Let these jobs not be listed."""
        known = [job_id for job_id in job_ids if 0 < job_id <= len(self._table.status)]
        hidden = [(job_id, self._table.cells(job_id)) for job_id in dict.fromkeys(known)]
        for job_id, cells in hidden:
            self._put(job_id, cells._replace(listed=0))
        try:
            yield
        finally:
            for job_id, cells in hidden:
                self._put(job_id, cells)

    def _put(self, job_id: int, cells: Cells) -> None:
        """Set the job's row to these cells, and list it accordingly."""
        table, row = self._table, job_id - 1
        listing, job_type = self._listings[table.listing[row]], table.job_type[row]
        if table.listed[row]:
            listing.remove(job_id, job_type, table.status[row])
        table.put(job_id, cells)
        if cells.listed:
            listing.insert(job_id, job_type, cells.status)
