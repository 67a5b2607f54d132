"""
The simulator's record of every run that started or ended, also of jobs that were deleted since then.

Tests compare the exporter's counters with it. All figures are exact integers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import compress, starmap
from operator import sub
from typing import Any, NamedTuple

from exporter.model import is_failed
from exporter.simulator.table import Listing, Table

Figures = Counter[tuple[int, ...]]


class Moment(NamedTuple):
    """A start or an end. Shape: `duration_ms` in the queue, or of the run: -1 for one without a start."""

    at_ms: int
    listing: int
    job_type: int
    status: int
    msg_code: int
    duration_ms: int


# Columns of machine numbers: an object for each of a million moments would take ten times the memory.
class Journal:
    """Moments in columns: those of the history first, unordered, then the later ones in the order of time."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._at_ms = array("q")
        # 16 bits hold every number of a listing, type or status.
        self._columns = (self._at_ms, array("H"), array("H"), array("H"), array("i"), array("q"))
        self._history = 0
        self._history_ms = 0

    def append(self, job_id: int, at_ms: int, duration_ms: int) -> None:
        """Append a moment of this job, with the status and the code of its row."""
        table, row = self._table, job_id - 1
        cells = (table.listing[row], table.job_type[row], table.status[row], table.msg_code[row])
        for column, value in zip(self._columns, (at_ms, *cells, duration_ms), strict=True):
            column.append(value)

    def extend(self, at_ms: array[int], durations_ms: Iterable[int]) -> None:
        """Append a moment for each row of the table where `at_ms` is not 0."""
        table = self._table
        rows = (at_ms, table.listing, table.job_type, table.status, table.msg_code, durations_ms)
        for column, values in zip(self._columns, rows, strict=True):
            column.extend(compress(values, at_ms))

    def end_history(self) -> None:
        """Declare that the history is complete: from now on, moments are appended in the order of time."""
        self._history, self._history_ms = len(self._at_ms), max(self._at_ms, default=0)

    def between(self, since_ms: int, until_ms: int) -> Iterator[Moment]:
        """Yield the moments from `since_ms` to before `until_ms`."""
        if since_ms <= self._history_ms:
            history = starmap(Moment, self._rows(slice(0, self._history)))
            yield from (moment for moment in history if since_ms <= moment.at_ms < until_ms)
        # Only what comes after the history is sorted.
        first = bisect_left(self._at_ms, since_ms, lo=self._history)
        last = bisect_left(self._at_ms, until_ms, lo=self._history)
        yield from starmap(Moment, self._rows(slice(first, last)))

    def _rows(self, span: slice) -> Iterator[tuple[int, ...]]:
        return zip(*(column[span] for column in self._columns), strict=True)


class Account:
    """Records the starts and ends of runs, and adds them up as docs/simulator.md shows it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._started = Journal(table)
        self._ended = Journal(table)

    def note_start(self, job_id: int, at_ms: int) -> None:
        self._started.append(job_id, at_ms, at_ms - self._table.submitted_ms[job_id - 1])

    def note_end(self, job_id: int, at_ms: int) -> None:
        started_ms = self._table.started_ms[job_id - 1]
        self._ended.append(job_id, at_ms, at_ms - started_ms if started_ms else -1)

    def note_history(self) -> None:
        table = self._table
        submitting = map(sub, table.started_ms, table.submitted_ms)
        running = (
            end - start if start else -1 for start, end in zip(table.started_ms, table.ended_ms, strict=True)
        )
        self._started.extend(table.started_ms, submitting)
        self._ended.extend(table.ended_ms, running)

    def end_history(self) -> None:
        self._started.end_history()
        self._ended.end_history()

    def targets(self, listings: list[Listing], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        """Count what happened from `since_ms` to before `until_ms`, and what is listed now."""
        table = self._table
        # The rows are in the order of creation.
        span = slice(table.first_id_since(since_ms) - 1, table.first_id_since(until_ms) - 1)
        names = ("created", "started", "submitting_ms", "ended", "failures", "ran", "running_ms", "listed")
        figures = {name: Figures() for name in names}
        figures["created"].update(zip(table.listing[span], table.job_type[span], strict=True))
        for at in self._started.between(since_ms, until_ms):
            figures["started"][at.listing, at.job_type] += 1
            figures["submitting_ms"][at.listing, at.job_type] += at.duration_ms
        for at in self._ended.between(since_ms, until_ms):
            key = (at.listing, at.job_type, at.status)
            figures["ended"][key] += 1
            if is_failed(table.statuses[at.status]):
                figures["failures"][*key, at.msg_code] += 1
            if at.duration_ms >= 0:
                figures["ran"][key] += 1
                figures["running_ms"][key] += at.duration_ms
        for number, listing in enumerate(listings):
            figures["listed"].update({(number, *types): jobs for *types, jobs in listing.counts()})
        return [
            {"project": listing.project_id, "workspace": listing.workspace_id}
            | {name: self._nested(number, counted) for name, counted in figures.items()}
            for number, listing in enumerate(listings)
        ]

    def _nested(self, listing: int, figures: Figures) -> dict[str, Any]:
        """
        Turn one listing's figures by (listing, type, status, code) into {type: {status: {code: …}}}.

        The keys may end after the type or the status. A missing code is "".
        """
        nested: dict[str, Any] = {}
        for key in sorted(key for key in figures if key[0] == listing):
            names = [
                *(self._table.types[number] for number in key[1:2]),
                *(self._table.statuses[number] for number in key[2:3]),
                *(str(code or "") for code in key[3:]),
            ]
            level = nested
            for name in names[:-1]:
                level = level.setdefault(name, {})
            level[names[-1]] = figures[key]
        return nested
