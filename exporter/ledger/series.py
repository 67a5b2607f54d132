"""The counters and histograms of a target in the SQLite ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from exporter.counting.increments import (
    FAILURES,
    RUNNING,
    SUBMITTING,
    Increments,
    add_counters,
    add_histograms,
    bounds_of,
)
from exporter.counting.released import STATUSES_SHOWN, Released, known_family, released_with, stands_for_type
from exporter.counting.rules import CountingRules
from exporter.model import OTHER, CounterValue, Exemplar, HistogramValue, SeriesKey

_encode = msgspec.json.Encoder().encode
_exemplar = msgspec.json.Decoder(Exemplar).decode
_histogram = msgspec.json.Decoder(HistogramValue).decode


@dataclass(frozen=True, slots=True)
class NewSeries:
    """
    How a series starts that has no row yet.

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


def add_to_series(db: sqlite3.Connection, target: int, increments: Increments, new_series: NewSeries) -> None:
    """Add a poll's increments. A series without a row is new, or was shown with its job type, at 0."""
    counts, observed = increments.counters, increments.histograms
    counters = read_counters(db, target) if counts else {}
    histograms = read_histograms(db, target, increments.rules) if observed else {}
    rows: list[dict[str, object]] = []
    for key, added in counts.items():
        new = new_series.is_released(key), CounterValue(created_ms=new_series.created_ms(key))
        released, value = counters.get(key, new)
        counter = add_counters(value, added)
        exemplar = None if counter.exemplar is None else _encode(counter.exemplar).decode()
        shown = {"released": released, "value": counter.value, "exemplar": exemplar}
        rows.append({**_labels(key), **shown, "msg_code": key.msg_code, "created_ms": counter.created_ms})
    _replace_rows(db, "counters", target, rows)
    rows = []
    for key, increase in observed.items():
        empty = replace(HistogramValue.empty(increase.bounds), created_ms=new_series.created_ms(key))
        released, histogram = histograms.get(key, (new_series.is_released(key), empty))
        value_json = _encode(add_histograms(histogram, increase)).decode()
        rows.append({**_labels(key), "released": released, "value": value_json})
    _replace_rows(db, "histograms", target, rows)


def _labels(key: SeriesKey) -> dict[str, object]:
    return {"family": key.family, "job_type": key.job_type, "status": key.status}


def _replace_rows(
    db: sqlite3.Connection, table: str, target: int, rows: Sequence[Mapping[str, object]]
) -> None:
    for row in rows:
        given = {"target": target, **row}
        columns, values = ", ".join(given), ", ".join(f":{name}" for name in given)
        db.execute(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({values})", given)  # noqa: S608 - constants only


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
    """Restart at 0 the histograms whose bounds are no longer the configured ones."""
    for family, bounds in ((SUBMITTING, rules.submitting_bounds), (RUNNING, rules.running_bounds)):
        empty = replace(HistogramValue.empty(bounds), created_ms=now_ms)
        db.execute(
            """
            UPDATE histograms SET value = ?, released = 0
            WHERE target = ? AND family = ? AND json_extract(value, '$.bounds') <> ?
            """,
            (_encode(empty).decode(), target, family, _encode(bounds).decode()),
        )
