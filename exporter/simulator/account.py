"""
The simulator's own account: every run that started or ended, whatever became of its job.

Tests hold the exporter's counters to it. All figures are exact integers.
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
    """A run started or ended; `duration_ms` is what was complete with it, -1 where the run never started."""

    at_ms: int
    listing: int
    job_type: int
    status: int
    msg_code: int
    duration_ms: int


class Journal:
    """
    Moments in compact columns.

    The history comes first, in no order; behind it, moments stand in the order of time.
    """

    def __init__(self) -> None:
        self._at_ms = array("q")
        self._columns = (self._at_ms, array("H"), array("H"), array("H"), array("i"), array("q"))
        self._history = 0
        self._history_ms = 0

    def append(self, moment: Moment) -> None:
        for column, value in zip(self._columns, moment, strict=True):
            column.append(value)

    def extend(self, table: Table, at_ms: array[int], durations_ms: Iterable[int]) -> None:
        """Append the moment of each row of the table where it is not 0, with what the row shows."""
        rows = (at_ms, table.listing, table.job_type, table.status, table.msg_code, durations_ms)
        for column, values in zip(self._columns, rows, strict=True):
            column.extend(compress(values, at_ms))

    def end_history(self) -> None:
        """Declare that what stands here is the history, and that what follows comes in the order of time."""
        self._history, self._history_ms = len(self._at_ms), max(self._at_ms, default=0)

    def between(self, since_ms: int, until_ms: int) -> Iterator[Moment]:
        """Yield the moments from `since_ms` to before `until_ms`, walking the history only if need be."""
        if since_ms <= self._history_ms:
            history = starmap(Moment, self._rows(slice(0, self._history)))
            yield from (moment for moment in history if since_ms <= moment.at_ms < until_ms)
        first = bisect_left(self._at_ms, since_ms, lo=self._history)
        last = bisect_left(self._at_ms, until_ms, lo=self._history)
        yield from starmap(Moment, self._rows(slice(first, last)))

    def _rows(self, span: slice) -> Iterator[tuple[int, ...]]:
        return zip(*(column[span] for column in self._columns), strict=True)


class Account:
    """
    Write down what runs do, and add it up.

    Shape: `targets` gives one dict per listing, as docs/simulator.md shows it.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._started = Journal()
        self._ended = Journal()

    def note_start(self, job_id: int, at_ms: int) -> None:
        """Write down that the job's run started."""
        self._started.append(self._moment(job_id, at_ms, at_ms - self._table.submitted_ms[job_id - 1]))

    def note_end(self, job_id: int, at_ms: int) -> None:
        """Write down that the job's run ended, in the status and with the code its row shows."""
        started_ms = self._table.started_ms[job_id - 1]
        self._ended.append(self._moment(job_id, at_ms, at_ms - started_ms if started_ms else -1))

    def note_history(self) -> None:
        """Write down the starts and ends that the rows show."""
        table = self._table
        submitting = map(sub, table.started_ms, table.submitted_ms)
        running = (
            end - start if start else -1 for start, end in zip(table.started_ms, table.ended_ms, strict=True)
        )
        self._started.extend(table, table.started_ms, submitting)
        self._ended.extend(table, table.ended_ms, running)

    def end_history(self) -> None:
        self._started.end_history()
        self._ended.end_history()

    def targets(self, listings: list[Listing], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        """Add up what happened from `since_ms` to before `until_ms`, and what is listed now."""
        figures = {
            "created": self._created(since_ms, until_ms),
            **self._starts(since_ms, until_ms),
            **self._ends(since_ms, until_ms),
            "listed": _listed(listings),
        }
        return [
            {"project": listing.project_id, "workspace": listing.workspace_id}
            | {name: self._nested(number, counted) for name, counted in figures.items()}
            for number, listing in enumerate(listings)
        ]

    def _moment(self, job_id: int, at_ms: int, duration_ms: int) -> Moment:
        table, row = self._table, job_id - 1
        listing, job_type = table.listing[row], table.job_type[row]
        return Moment(at_ms, listing, job_type, table.status[row], table.msg_code[row], duration_ms)

    def _created(self, since_ms: int, until_ms: int) -> Figures:
        table = self._table
        span = slice(table.first_id_since(since_ms) - 1, table.first_id_since(until_ms) - 1)
        return Counter(zip(table.listing[span], table.job_type[span], strict=True))

    def _starts(self, since_ms: int, until_ms: int) -> dict[str, Figures]:
        started: Figures = Counter()
        submitting_ms: Figures = Counter()
        for moment in self._started.between(since_ms, until_ms):
            key = (moment.listing, moment.job_type)
            started[key] += 1
            submitting_ms[key] += moment.duration_ms
        return {"started": started, "submitting_ms": submitting_ms}

    def _ends(self, since_ms: int, until_ms: int) -> dict[str, Figures]:
        ended: Figures = Counter()
        failures: Figures = Counter()
        ran: Figures = Counter()
        running_ms: Figures = Counter()
        for moment in self._ended.between(since_ms, until_ms):
            key = (moment.listing, moment.job_type, moment.status)
            ended[key] += 1
            if is_failed(self._table.statuses[moment.status]):
                failures[*key, moment.msg_code] += 1
            if moment.duration_ms >= 0:
                ran[key] += 1
                running_ms[key] += moment.duration_ms
        return {"ended": ended, "failures": failures, "ran": ran, "running_ms": running_ms}

    def _nested(self, listing: int, figures: Figures) -> dict[str, Any]:
        """Turn one listing's figures by (listing, type, status, code) into {type: {status: {code: …}}}."""
        nested: dict[str, Any] = {}
        for key in sorted(key for key in figures if key[0] == listing):
            *path, last = self._names(key)
            level = nested
            for name in path:
                level = level.setdefault(name, {})
            level[last] = figures[key]
        return nested

    def _names(self, key: tuple[int, ...]) -> list[str]:
        """Name a key's type, status and code, as far as it goes; no code is ""."""
        job_types = [self._table.types[number] for number in key[1:2]]
        statuses = [self._table.statuses[number] for number in key[2:3]]
        return [*job_types, *statuses, *(str(code or "") for code in key[3:])]


def _listed(listings: list[Listing]) -> Figures:
    return Counter(
        {
            (number, job_type, status): jobs
            for number, listing in enumerate(listings)
            for job_type, status, jobs in listing.counts()
        }
    )
