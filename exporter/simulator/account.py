"""
The simulator's record of every run that started or ended, also of jobs that were deleted since then.

Tests compare the exporter's counters with it. All figures are exact integers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import compress, count, starmap
from operator import sub
from typing import Any, NamedTuple

from exporter.model import is_failed, is_terminal
from exporter.simulator.specs import Specs
from exporter.simulator.table import Listing, Table

Key = tuple[int, ...]
Figures = Counter[Key]


class Moment(NamedTuple):
    """A start or an end. Shape: `duration_ms` in the queue, or of the run: -1 for one without a start."""

    at_ms: int
    job_id: int
    status: int
    msg_code: int
    duration_ms: int


class Rerun(NamedTuple):
    """A run of a job that had ended before. Shape: `at_ms` is its start, or its end if it never started."""

    at_ms: int
    job_id: int
    submitted_ms: int


# Columns of machine numbers: an object for each of a million moments would take ten times the memory.
class Journal:
    """Moments in columns: those of the history first, unordered, then the later ones in the order of time."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._at_ms = array("q")
        # 16 bits hold every number of a status.
        self._columns = (self._at_ms, array("i"), array("H"), array("i"), array("q"))
        self._history = 0
        self._history_ms = 0

    def append(self, job_id: int, at_ms: int, duration_ms: int) -> None:
        """Append a moment of this job, with the status and the code of its row."""
        table, row = self._table, job_id - 1
        cells = (at_ms, job_id, table.status[row], table.msg_code[row], duration_ms)
        for column, value in zip(self._columns, cells, strict=True):
            column.append(value)

    def extend(self, at_ms: array[int], durations_ms: Iterable[int]) -> None:
        """Append a moment for each row of the table where `at_ms` is not 0."""
        table = self._table
        rows = (at_ms, count(1), table.status, table.msg_code, durations_ms)
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

    def __init__(self, table: Table, specs: Specs) -> None:
        self._table = table
        self._specs = specs
        self._started = Journal(table)
        self._ended = Journal(table)
        # They are few. No job of the written history has run twice.
        self._reruns: list[Rerun] = []

    def note_start(self, job_id: int, at_ms: int) -> None:
        self._started.append(job_id, at_ms, at_ms - self._table.submitted_ms[job_id - 1])
        self._note_rerun(job_id, at_ms)

    def note_end(self, job_id: int, at_ms: int) -> None:
        started_ms = self._table.started_ms[job_id - 1]
        self._ended.append(job_id, at_ms, at_ms - started_ms if started_ms else -1)
        if not started_ms:
            self._note_rerun(job_id, at_ms)

    def _note_rerun(self, job_id: int, at_ms: int) -> None:
        submitted_ms = self._table.submitted_ms[job_id - 1]
        if submitted_ms != self._table.created_ms[job_id - 1]:
            self._reruns.append(Rerun(at_ms, job_id, submitted_ms))

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
        figures = {
            "created": Figures(zip(table.listing[span], table.job_type[span], strict=True)),
            **self._starts(since_ms, until_ms),
            **self._ends(since_ms, until_ms),
            "reruns": self._reruns_between(since_ms, until_ms),
            "listed": Figures(),
            "spec_in_flight": Figures(),
        }
        for number, listing in enumerate(listings):
            figures["listed"].update({(number, *types): jobs for *types, jobs in listing.counts()})
            figures["spec_in_flight"].update(self._in_flight(number, listing))
        return [
            {"project": listing.project_id, "workspace": listing.workspace_id}
            | {name: self._nested(name, number, counted) for name, counted in figures.items()}
            for number, listing in enumerate(listings)
        ]

    def _starts(self, since_ms: int, until_ms: int) -> dict[str, Figures]:
        """Add up the runs that started: by type, and by spec."""
        runs, waited_ms = Figures(), Figures()
        table, specs = self._table, self._specs
        for at in self._started.between(since_ms, until_ms):
            row = at.job_id - 1
            job_type = table.job_type[row]
            key = (table.listing[row], job_type, specs.number(at.job_id, job_type))
            runs[key] += 1
            waited_ms[key] += at.duration_ms
        figures = {
            name: Figures() for name in ("started", "submitting_ms", "spec_started", "spec_submitting_ms")
        }
        for (listing, job_type, spec), number in runs.items():
            ms = waited_ms[listing, job_type, spec]
            figures["started"][listing, job_type] += number
            figures["submitting_ms"][listing, job_type] += ms
            figures["spec_started"][listing, spec] += number
            figures["spec_submitting_ms"][listing, spec] += ms
        return figures

    def _ends(self, since_ms: int, until_ms: int) -> dict[str, Figures]:
        """Add up the runs that ended by type and status, and what those that ran have used."""
        ended, failures, ran, ran_ms = Figures(), Figures(), Figures(), Figures()
        table, specs = self._table, self._specs
        for at in self._ended.between(since_ms, until_ms):
            row = at.job_id - 1
            key = (table.listing[row], table.job_type[row], at.status)
            ended[key] += 1
            if is_failed(table.statuses[at.status]):
                failures[*key, at.msg_code] += 1
            if at.duration_ms >= 0:
                ran[key] += 1
                ran_ms[*key, specs.number(at.job_id, key[1])] += at.duration_ms
        figures = {"ended": ended, "failures": failures, "ran": ran, "running_ms": Figures()}
        # A thousandth of a core for a millisecond is a microsecond of a core.
        used = {name: Figures() for name in ("core_us", "gpu_us", "memory_gib_us")}
        for (*kind, spec), ms in ran_ms.items():
            figures["running_ms"][tuple(kind)] += ms
            for name, thousandths in zip(used, specs.resources(spec), strict=True):
                used[name][tuple(kind)] += thousandths * ms
        return figures | used

    def _reruns_between(self, since_ms: int, until_ms: int) -> Figures:
        """
        Count the runs of jobs that had ended before, by type.

        Of a job that was reopened before `since_ms`, no row tells from then on that it had ended before. Who
        begins to read at `since_ms` cannot count its run, so it is left out here too.
        """
        return Figures(
            (self._table.listing[rerun.job_id - 1], self._table.job_type[rerun.job_id - 1])
            for rerun in self._reruns
            if rerun.at_ms < until_ms and rerun.submitted_ms >= since_ms
        )

    def _in_flight(self, number: int, listing: Listing) -> Figures:
        """Count the listed jobs that have not ended, by spec and status."""
        table = self._table
        open_statuses = [
            status for _, status, _ in listing.counts() if not is_terminal(table.statuses[status])
        ]
        if not open_statuses:
            return Figures()
        return Figures(
            (number, self._specs.number(job_id, table.job_type[job_id - 1]), table.status[job_id - 1])
            for ids in listing.having((), open_statuses)
            for job_id in ids
            if not table.ended_ms[job_id - 1]
        )

    def _nested(self, figure: str, listing: int, figures: Figures) -> dict[str, Any]:
        """
        Turn one listing's figures by (listing, type, status, code) into {type: {status: {code: …}}}.

        The keys may end after the type or the status. A missing code is "". The figures whose names begin
        with `spec` have the resource spec in place of the type, "" for none.
        """
        firsts = self._specs.names if figure.startswith("spec") else self._table.types
        nested: dict[str, Any] = {}
        for key in sorted(key for key in figures if key[0] == listing):
            names = [
                *(firsts[number] for number in key[1:2]),
                *(self._table.statuses[number] for number in key[2:3]),
                *(str(code or "") for code in key[3:]),
            ]
            level = nested
            for name in names[:-1]:
                level = level.setdefault(name, {})
            level[names[-1]] = figures[key]
        return nested
