"""The counters and histograms of a target in the SQLite ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from exporter.counting.increments import (
    FAILURES,
    RUNNING,
    SUBMITTING,
    Increments,
    add_counters,
    add_histograms,
)
from exporter.counting.released import STATUSES_SHOWN, Released, known_family, released_with, stands_for_type
from exporter.counting.rules import CountingRules
from exporter.model import OTHER, CounterValue, Exemplar, HistogramValue, SeriesKey

_encode = msgspec.json.Encoder().encode
_exemplar = msgspec.json.Decoder(Exemplar).decode
_histogram = msgspec.json.Decoder(HistogramValue).decode


@dataclass(frozen=True, slots=True)
class Births:
    """
    How a series begins that has no row yet.

    Shape: `shown_types` has since when each type's series have been shown, at 0; `at_once` if what is counted
    now is shown with its value at once (a first sync with `count_history`). Units: `now_ms` by our clock.
    """

    shown_types: Mapping[str, int]
    released: Released
    now_ms: int
    at_once: bool

    def is_released(self, key: SeriesKey) -> bool:
        return self.at_once or (_is_shown_with_type(key) and self.released.has(key.family, key.job_type))

    def created_ms(self, key: SeriesKey) -> int:
        return self.shown_types.get(key.job_type, self.now_ms) if _is_shown_with_type(key) else self.now_ms


def _is_shown_with_type(key: SeriesKey) -> bool:
    return stands_for_type(released_with(key))


def known_codes(db: sqlite3.Connection, target: int) -> set[str]:
    """Give the error codes that have a series of their own."""
    rows = db.execute(
        "SELECT DISTINCT msg_code FROM counters WHERE target = ? AND family = ? AND msg_code NOT IN ('', ?)",
        (target, FAILURES, OTHER),
    )
    return {code for (code,) in rows}


def read_counters(db: sqlite3.Connection, target: int) -> dict[SeriesKey, tuple[bool, CounterValue]]:
    """Give every counter of a target, and whether it is released."""
    rows = db.execute(
        """
        SELECT family, job_type, status, msg_code, released, value, exemplar, created_ms
        FROM counters WHERE target = ?
        """,
        (target,),
    )
    return {
        SeriesKey(known_family(family), job_type, status, code): (
            bool(released),
            CounterValue(value, None if exemplar is None else _exemplar(exemplar), created_ms),
        )
        for family, job_type, status, code, released, value, exemplar, created_ms in rows
    }


def read_histograms(
    db: sqlite3.Connection, target: int, rules: CountingRules
) -> dict[SeriesKey, tuple[bool, HistogramValue]]:
    """
    Give every histogram of a target, and whether it is released. One of other bounds than those asked for is
    empty and new; since when, no commit has said yet.
    """
    rows = db.execute(
        "SELECT family, job_type, status, released, value FROM histograms WHERE target = ?", (target,)
    )
    read = {
        SeriesKey(known_family(family), job_type, status): (bool(released), _histogram(value))
        for family, job_type, status, released, value in rows
    }
    return {
        key: (released, value) if value.bounds == bounds else (False, HistogramValue.empty(bounds))
        for key, (released, value) in read.items()
        for bounds in [bounds_of(key, rules)]
    }


def bounds_of(key: SeriesKey, rules: CountingRules) -> tuple[float, ...]:
    return rules.submitting_bounds if key.family == SUBMITTING else rules.running_bounds


def add_to_series(db: sqlite3.Connection, target: int, tally: Increments, births: Births) -> None:
    """Add a poll's tally. A series that is not known yet is new, or was shown with its job type, at 0."""
    counters = read_counters(db, target) if tally.counters else {}
    for key, added in tally.counters.items():
        new = births.is_released(key), CounterValue(created_ms=births.created_ms(key))
        released, value = counters.get(key, new)
        _write_counter(db, target, key, released, add_counters(value, added))
    histograms = read_histograms(db, target, tally.rules) if tally.histograms else {}
    for key, increase in tally.histograms.items():
        empty = replace(HistogramValue.empty(increase.bounds), created_ms=births.created_ms(key))
        released, histogram = histograms.get(key, (births.is_released(key), empty))
        _write_histogram(db, target, key, released, add_histograms(histogram, increase))


def _write_counter(
    db: sqlite3.Connection, target: int, key: SeriesKey, released: bool, value: CounterValue
) -> None:
    exemplar = None if value.exemplar is None else _encode(value.exemplar).decode()
    db.execute(
        """
        INSERT OR REPLACE INTO counters
            (target, family, job_type, status, msg_code, released, value, exemplar, created_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            *(target, key.family, key.job_type, key.status, key.msg_code),
            *(released, value.value, exemplar, value.created_ms),
        ),
    )


def _write_histogram(
    db: sqlite3.Connection, target: int, key: SeriesKey, released: bool, value: HistogramValue
) -> None:
    db.execute(
        """
        INSERT OR REPLACE INTO histograms (target, family, job_type, status, released, value)
        VALUES (?, ?, ?, ?, ?, ?)
        """,
        (target, key.family, key.job_type, key.status, released, _encode(value).decode()),
    )


def release_rows(db: sqlite3.Connection, target: int, keys: Iterable[SeriesKey]) -> None:
    """Release the series that have rows and go with these keys."""
    rows = [
        (target, key.family, key.job_type, status, key.msg_code)
        for key in keys
        for status in (STATUSES_SHOWN[key.family] if stands_for_type(key) else (key.status,))
    ]
    db.executemany(
        """
        UPDATE counters SET released = 1
        WHERE target = ? AND family = ? AND job_type = ? AND status = ? AND msg_code = ?
        """,
        rows,
    )
    db.executemany(
        """
        UPDATE histograms SET released = 1
        WHERE target = ? AND family = ? AND job_type = ? AND status = ? AND ? = ''
        """,
        rows,
    )


def empty_changed_histograms(db: sqlite3.Connection, target: int, rules: CountingRules, now_ms: int) -> None:
    """Let the histograms whose bounds are not the configured ones any more begin anew."""
    for family, bounds in ((SUBMITTING, rules.submitting_bounds), (RUNNING, rules.running_bounds)):
        empty = replace(HistogramValue.empty(bounds), created_ms=now_ms)
        db.execute(
            """
            UPDATE histograms SET value = ?, released = 0
            WHERE target = ? AND family = ? AND json_extract(value, '$.bounds') <> ?
            """,
            (_encode(empty).decode(), target, family, _encode(bounds).decode()),
        )
