"""
Every job ever created, in compact columns: some 60 bytes each, a million in 60 MB.

Job n stands in row n - 1, and ids ascend with creation. Units: Unix milliseconds UTC; 0 is "not yet".
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from exporter.model import JOB_TYPES, STATUSES


class Names:
    """Number names from 0; a name that is new takes the next number."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = list(names)
        self._numbers = {name: number for number, name in enumerate(names)}

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
    """What may change of a job once it is created."""

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

    Shape: `listing` numbers the (project, workspace); `submitted_ms` is the creation, or the reopening of the
    run that is shown; `listed` is 0 once a job is deleted.
    """

    def __init__(self) -> None:
        self.types = Names(JOB_TYPES)
        self.statuses = Names(STATUSES)
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

    def append(self, listing: int, job_type: int, created_ms: int) -> int:
        """Add a job that is QUEUING since its creation, and return its id."""
        self.listing.append(listing)
        self.job_type.append(job_type)
        self.status.append(0)
        self.listed.append(1)
        self.msg_code.append(0)
        self.created_ms.append(created_ms)
        self.updated_ms.append(created_ms)
        self.submitted_ms.append(created_ms)
        self.started_ms.append(0)
        self.ended_ms.append(0)
        self.last_update_ms = max(self.last_update_ms, created_ms)
        return len(self.status)

    def extend(self, created_ms: array[int]) -> None:
        """Add many jobs at once, QUEUING in the first listing; what else there is to them is set later."""
        count = len(created_ms)
        for column in (self.listing, self.job_type, self.status, self.msg_code):
            column.frombytes(bytes(count * column.itemsize))
        self.listed.frombytes(b"\x01" * count)
        for times_ms in (self.created_ms, self.updated_ms, self.submitted_ms):
            times_ms.extend(created_ms)
        for times_ms in (self.started_ms, self.ended_ms):
            times_ms.frombytes(bytes(count * times_ms.itemsize))

    def cells(self, job_id: int) -> Cells:
        """Give what may change of the job as it is now."""
        row = job_id - 1
        return Cells(
            self.listed[row],
            self.status[row],
            self.msg_code[row],
            self.updated_ms[row],
            self.submitted_ms[row],
            self.started_ms[row],
            self.ended_ms[row],
        )

    def put(self, job_id: int, cells: Cells) -> None:
        """Set what may change of the job."""
        row = job_id - 1
        self.listed[row] = cells.listed
        self.status[row] = cells.status
        self.msg_code[row] = cells.msg_code
        self.updated_ms[row] = cells.updated_ms
        self.submitted_ms[row] = cells.submitted_ms
        self.started_ms[row] = cells.started_ms
        self.ended_ms[row] = cells.ended_ms

    def touch(self, job_id: int, at_ms: int) -> None:
        """Move the job's update time on."""
        row = job_id - 1
        self.updated_ms[row] = max(at_ms, self.updated_ms[row] + 1)
        self.last_update_ms = max(self.last_update_ms, self.updated_ms[row])

    def first_id_since(self, created_ms: int) -> int:
        """Return the id of the first job created then or later, or the id the next job will get."""
        return bisect_left(self.created_ms, created_ms) + 1

    def first_id_after(self, created_ms: int) -> int:
        """Return the id of the first job created later than that, or the id the next job will get."""
        return bisect_right(self.created_ms, created_ms) + 1
