"""The counters and histograms of a target in the SQLite ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from exporter.ledger.protocol import CountingRules
from exporter.ledger.tally import (
    FAILURES,
    RECENT_FAILURES,
    RUNNING,
    SUBMITTING,
    SeriesKey,
    Tally,
    add_counters,
    add_histograms,
)
from exporter.model import OTHER, TERMINAL_STATUSES, CounterValue, Exemplar, Failure, HistogramValue

_encode = msgspec.json.Encoder().encode
_exemplar = msgspec.json.Decoder(Exemplar).decode
_histogram = msgspec.json.Decoder(HistogramValue).decode
_failure = msgspec.json.Decoder(Failure).decode


# The series of these statuses are shown with their job type; those of others are born when they first count.
_SHOWN = frozenset(("", *TERMINAL_STATUSES))


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a target: its number, and our clock at it."""

    number: int
    at_ms: int


def known_codes(db: sqlite3.Connection, target: int) -> set[str]:
    """Give the error codes that have a series of their own."""
    rows = db.execute(
        "SELECT DISTINCT msg_code FROM counters WHERE target = ? AND family = ? AND msg_code NOT IN ('', ?)",
        (target, FAILURES, OTHER),
    )
    return {code for (code,) in rows}


def read_counters(db: sqlite3.Connection, target: int) -> dict[SeriesKey, tuple[int, CounterValue]]:
    """Give every counter of a target with the commit it was born at."""
    rows = db.execute(
        """
        SELECT family, job_type, status, msg_code, born, value, exemplar, created_ms
        FROM counters WHERE target = ?
        """,
        (target,),
    )
    return {
        SeriesKey(family, job_type, status, code): (
            born,
            CounterValue(value, None if exemplar is None else _exemplar(exemplar), created_ms),
        )
        for family, job_type, status, code, born, value, exemplar, created_ms in rows
    }


def read_histograms(
    db: sqlite3.Connection, target: int, rules: CountingRules
) -> dict[SeriesKey, tuple[int, HistogramValue]]:
    """
    Give every histogram of a target with the commit it was born at. One of other bounds than those asked for
    is empty, as of when no commit has said yet.
    """
    rows = db.execute(
        "SELECT family, job_type, status, born, value FROM histograms WHERE target = ?", (target,)
    )
    read = {
        SeriesKey(family, job_type, status): (born, _histogram(value))
        for family, job_type, status, born, value in rows
    }
    return {
        key: (born, value if value.bounds == bounds else HistogramValue.empty(bounds))
        for key, (born, value) in read.items()
        for bounds in [bounds_of(key, rules)]
    }


def bounds_of(key: SeriesKey, rules: CountingRules) -> tuple[float, ...]:
    return rules.submitting_bounds if key.family == SUBMITTING else rules.running_bounds


def add_to_series(
    db: sqlite3.Connection,
    target: int,
    tally: Tally,
    shown_types: Mapping[str, int],
    commit: Commit,
) -> None:
    """
    Add a poll's tally. A series that was shown before (at 0, if nothing had happened) goes on from there;
    another is born at this commit.

    Shape: `shown_types` has since when each type's series have been shown.
    """
    counters = read_counters(db, target) if tally.counters else {}
    for key, added in tally.counters.items():
        birth = _birth(key, shown_types, commit)
        born, value = counters.get(key, (birth.number, CounterValue(created_ms=birth.at_ms)))
        _write_counter(db, target, key, born, add_counters(value, added))
    histograms = read_histograms(db, target, tally.rules) if tally.histograms else {}
    for key, increase in tally.histograms.items():
        birth = _birth(key, shown_types, commit)
        empty = replace(HistogramValue.empty(increase.bounds), created_ms=birth.at_ms)
        born, histogram = histograms.get(key, (birth.number, empty))
        _write_histogram(db, target, key, born, add_histograms(histogram, increase))


def _birth(key: SeriesKey, shown_types: Mapping[str, int], commit: Commit) -> Commit:
    if key.msg_code == "" and key.status in _SHOWN and key.job_type in shown_types:
        return Commit(0, shown_types[key.job_type])
    return commit


def _write_counter(
    db: sqlite3.Connection, target: int, key: SeriesKey, born: int, value: CounterValue
) -> None:
    exemplar = None if value.exemplar is None else _encode(value.exemplar).decode()
    db.execute(
        "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(target, key.family, key.job_type, key.status, key.msg_code),
            *(born, value.value, exemplar, value.created_ms),
        ),
    )


def _write_histogram(
    db: sqlite3.Connection, target: int, key: SeriesKey, born: int, value: HistogramValue
) -> None:
    db.execute(
        "INSERT OR REPLACE INTO histograms VALUES (?, ?, ?, ?, ?, ?)",
        (target, key.family, key.job_type, key.status, born, _encode(value).decode()),
    )


def empty_changed_histograms(db: sqlite3.Connection, target: int, rules: CountingRules, now_ms: int) -> None:
    """Let the histograms whose bounds are not the configured ones any more begin anew."""
    for family, bounds in ((SUBMITTING, rules.submitting_bounds), (RUNNING, rules.running_bounds)):
        empty = replace(HistogramValue.empty(bounds), created_ms=now_ms)
        db.execute(
            """
            UPDATE histograms SET value = ?
            WHERE target = ? AND family = ? AND json_extract(value, '$.bounds') <> ?
            """,
            (_encode(empty).decode(), target, family, _encode(bounds).decode()),
        )


def keep_failures(db: sqlite3.Connection, target: int, failures: Sequence[Failure]) -> None:
    """Keep the latest failed runs for the status page, and no more than it shows."""
    latest = sorted(failures, key=lambda failure: failure.at_ms)[-RECENT_FAILURES:]
    db.executemany(
        "INSERT INTO recent_failures VALUES (?, ?, ?)",
        [(target, failure.at_ms, _encode(failure).decode()) for failure in latest],
    )
    db.execute(
        """
        DELETE FROM recent_failures WHERE target = :target AND rowid NOT IN (
            SELECT rowid FROM recent_failures WHERE target = :target ORDER BY at_ms DESC LIMIT :most
        )
        """,
        {"target": target, "most": RECENT_FAILURES},
    )


def read_failures(db: sqlite3.Connection, target: int) -> tuple[Failure, ...]:
    """Give the latest failed runs, the newest first."""
    rows = db.execute("SELECT failure FROM recent_failures WHERE target = ? ORDER BY at_ms DESC", (target,))
    return tuple(_failure(failure) for (failure,) in rows)
