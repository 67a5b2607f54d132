"""
Every job ever created in compact columns, the sorted ids of each listing, and the changes of the last minute.

A job takes about 60 bytes, a million jobs 60 MB. Job n is in row n - 1, and ids ascend with creation. So an
array of ids is in creation order, bisection turns a creation time into an id, and a page is found without
reading the rows before it. Units: Unix milliseconds UTC; 0 means "not yet".
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from exporter.model import JOB_TYPES, STATUSES
from exporter.simulator.lifecycle import STAGES
from exporter.simulator.settings import MAX_LAG_SECONDS

Ids = Sequence[int]


class Names:
    """Numbers names from 0; a new name takes the next number."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        return number

    def __getitem__(self, number: int) -> str:
        return self._names[number]

    def __contains__(self, name: str) -> bool:
        return name in self._numbers


class Cells(NamedTuple):
    """The cells of a job's row that may change after its creation."""

    listed: int
    status: int
    msg_code: int
    updated_ms: int
    submitted_ms: int
    started_ms: int
    ended_ms: int


NOT_LISTED = Cells(0, 0, 0, 0, 0, 0, 0)


class Table:
    """
    The columns.

    Shape: `listing` numbers the (project, workspace); `submitted_ms` is the creation time, or the time at
    which the job was reopened; `listed` is 0 once a job is deleted.
    """

    def __init__(self) -> None:
        self.types = Names(JOB_TYPES)
        # A new row is zero-filled, so 0 must be the first stage. The other documented statuses have numbers
        # as well, since the server accepts them as filters even if no job has ever been in one.
        self.statuses = Names(dict.fromkeys((*STAGES, *STATUSES)))
        self.listing = array("H")
        self.job_type = array("H")
        self.status = array("H")
        self.listed = array("B")
        self.msg_code = array("i")
        self.created_ms = array("q")
        self.updated_ms = array("q")
        self.submitted_ms = array("q")
        self.started_ms = array("q")
        self.ended_ms = array("q")
        self.last_update_ms = 0
        # In the order of the fields of Cells.
        self.changing: tuple[array[int], ...] = (
            *(self.listed, self.status, self.msg_code),
            *(self.updated_ms, self.submitted_ms, self.started_ms, self.ended_ms),
        )

    def append(self, listing: int, job_type: int, created_ms: int) -> int:
        """Add a job that is QUEUING since its creation, and return its id."""
        self.extend(array("q", (created_ms,)))
        self.listing[-1] = listing
        self.job_type[-1] = job_type
        self.last_update_ms = max(self.last_update_ms, created_ms)
        return len(self.status)

    def extend(self, created_ms: array[int]) -> None:
        """Add many jobs at once, QUEUING in the first listing; the caller sets their other cells."""
        count = len(created_ms)
        for column in (self.listing, self.job_type, self.status, self.msg_code):
            # All at once, because a million appends take seconds.
            column.frombytes(bytes(count * column.itemsize))
        self.listed.frombytes(b"\x01" * count)
        for times_ms in (self.created_ms, self.updated_ms, self.submitted_ms):
            times_ms.extend(created_ms)
        for times_ms in (self.started_ms, self.ended_ms):
            times_ms.frombytes(bytes(count * times_ms.itemsize))

    def cells(self, job_id: int) -> Cells:
        return Cells(*(column[job_id - 1] for column in self.changing))

    def touch(self, job_id: int, at_ms: int) -> None:
        """Set the job's update time to now, and in any case later than it was."""
        row = job_id - 1
        self.updated_ms[row] = max(at_ms, self.updated_ms[row] + 1)
        self.last_update_ms = max(self.last_update_ms, self.updated_ms[row])

    def first_id_since(self, created_ms: int) -> int:
        """Return the id of the first job created then or later, or the id the next job will get."""
        return bisect_left(self.created_ms, created_ms) + 1


class Listing:
    """The listed jobs of one (project, workspace): sorted ids, by the numbers of type and status."""

    def __init__(self, project_id: str, workspace_id: str) -> None:
        self.project_id = project_id
        self.workspace_id = workspace_id
        self.all_ids = array("q")
        self._by: defaultdict[tuple[int, int], array[int]] = defaultdict(lambda: array("q"))

    def append(self, job_id: int, job_type: int, status: int) -> None:
        """Add the newest job. Its id is the highest, so no search is needed."""
        self.all_ids.append(job_id)
        self._by[job_type, status].append(job_id)

    def move(self, job_id: int, job_type: int, old: int, new: int) -> None:
        _discard(self._by[job_type, old], job_id)
        insort(self._by[job_type, new], job_id)

    def insert(self, job_id: int, job_type: int, status: int) -> None:
        """Add a job again that was removed."""
        insort(self.all_ids, job_id)
        insort(self._by[job_type, status], job_id)

    def remove(self, job_id: int, job_type: int, status: int) -> None:
        _discard(self.all_ids, job_id)
        _discard(self._by[job_type, status], job_id)

    def having(self, job_types: Collection[int], statuses: Collection[int]) -> list[Ids]:
        """Return disjoint sorted arrays that together have all matching jobs. An empty filter matches any."""
        if not job_types and not statuses:
            return [self.all_ids]
        return [
            ids
            for (job_type, status), ids in self._by.items()
            if (not job_types or job_type in job_types) and (not statuses or status in statuses)
        ]

    def counts(self) -> Iterator[tuple[int, int, int]]:
        """Yield (type, status, number of jobs) where there are any."""
        return ((job_type, status, len(ids)) for (job_type, status), ids in self._by.items() if ids)


def _discard(ids: array[int], job_id: int) -> None:
    # array.remove() would search from the beginning.
    del ids[bisect_left(ids, job_id)]


class _Change(NamedTuple):
    at: float
    job_id: int
    before: Cells
    after: Cells


class RecentChanges:
    """
    The changes of all jobs in the last minute: for replicas, indexes and totals that lag.

    To show an older state, the newer changes are undone, and done again afterwards.
    Units: `clock` gives real seconds that only go forward.
    """

    def __init__(self, table: Table, listings: list[Listing], clock: Callable[[], float]) -> None:
        self._table = table
        self._listings = listings
        self._clock = clock
        self._changes: deque[_Change] = deque()

    def record(self, job_id: int, before: Cells) -> None:
        """Record the change that was just made to a job; `before` are its cells before the change."""
        now = self._clock()
        self._changes.append(_Change(now, job_id, before, self._table.cells(job_id)))
        while self._changes[0].at < now - MAX_LAG_SECONDS:
            self._changes.popleft()

    def is_settled(self, lag_seconds: float) -> bool:
        """Tell whether nothing has changed for this long: then every replica shows the present state."""
        return not self._changes or self._changes[-1].at <= self._clock() - lag_seconds

    @contextmanager
    def as_of(self, lag_seconds: float) -> Iterator[None]:
        """Within this context, the table and the listings are as they were that long ago."""
        if lag_seconds <= 0:
            yield
            return
        since = self._clock() - lag_seconds
        undone: list[_Change] = []
        # The newest first, because a job may have changed several times.
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
    def hiding(self, job_ids: Iterable[int]) -> Iterator[None]:
        """Within this context, these jobs are not listed."""
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
        # First, because the listing finds the job by the status that it still has.
        if table.listed[row]:
            listing.remove(job_id, job_type, table.status[row])
        for column, value in zip(table.changing, cells, strict=True):
            column[row] = value
        if cells.listed:
            listing.insert(job_id, job_type, cells.status)
