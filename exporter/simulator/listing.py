"""
What one (project, workspace) lists: sorted ids by type and status, and pages out of any union of them.

Ids ascend with creation, so that an array of ids is in creation order, a creation time is an id to bisect
with, and a page is found without walking what stands before it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Window:
    """Ids from `low` to before `high`."""

    low: int
    high: int

    def intersect(self, low: int, high: int) -> Window:
        return Window(max(self.low, low), min(self.high, high))


class Listing:
    """The listed jobs of one (project, workspace). Types and statuses are numbers, as the table has them."""

    def __init__(self, project_id: str, workspace_id: str) -> None:
        self.project_id = project_id
        self.workspace_id = workspace_id
        self.all_ids = array("q")
        self._by: dict[tuple[int, int], array[int]] = {}

    def append(self, job_id: int, job_type: int, status: int) -> None:
        """Add the newest job."""
        self.all_ids.append(job_id)
        self._ids(job_type, status).append(job_id)

    def move(self, job_id: int, job_type: int, old: int, new: int) -> None:
        """Note that a job went from one status to another."""
        _discard(self._ids(job_type, old), job_id)
        insort(self._ids(job_type, new), job_id)

    def insert(self, job_id: int, job_type: int, status: int) -> None:
        """Put a job back that was removed."""
        insort(self.all_ids, job_id)
        insort(self._ids(job_type, status), job_id)

    def remove(self, job_id: int, job_type: int, status: int) -> None:
        """Drop a deleted job."""
        _discard(self.all_ids, job_id)
        _discard(self._ids(job_type, status), job_id)

    def having(self, job_types: Collection[int], statuses: Collection[int]) -> list[Ids]:
        """Return the disjoint sorted arrays that together hold the jobs asked for; empty means any."""
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

    def _ids(self, job_type: int, status: int) -> array[int]:
        ids = self._by.get((job_type, status))
        if ids is None:
            ids = self._by[job_type, status] = array("q")
        return ids


def _discard(ids: array[int], job_id: int) -> None:
    del ids[bisect_left(ids, job_id)]


def count(arrays: Iterable[Ids], window: Window) -> int:
    """Count the ids within the window."""
    if window.high <= window.low:
        return 0
    return sum(bisect_left(ids, window.high) - bisect_left(ids, window.low) for ids in arrays)


def newest(arrays: Sequence[Ids], window: Window, offset: int, limit: int) -> list[int]:
    """
    Return up to `limit` ids within the window, descending, after the `offset` highest.

    The id to begin below is found by halving the window: log2(ids) counts, wherever the page is.
    """
    top = _halve(window, lambda x: count(arrays, Window(x, window.high)) <= offset)
    ids: list[int] = []
    for one in arrays:
        end = bisect_left(one, top)
        ids.extend(one[max(bisect_left(one, window.low), end - limit) : end])
    ids.sort(reverse=True)
    return ids[:limit]


def oldest(arrays: Sequence[Ids], window: Window, offset: int, limit: int) -> list[int]:
    """Return up to `limit` ids within the window, ascending, after the `offset` lowest."""
    before_end = count(arrays, window) - offset - limit
    page = newest(arrays, window, max(before_end, 0), max(limit + min(before_end, 0), 0))
    return page[::-1]


def _halve(window: Window, is_enough: Callable[[int], bool]) -> int:
    """Return the lowest id of the window (or its end) for which `is_enough`, which holds from there on."""
    low, high = window.low, max(window.high, window.low)
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return low
