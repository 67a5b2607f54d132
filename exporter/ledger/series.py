"""The counters, histograms and sums of resource seconds of a target in the ledger."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from exporter.counting.increments import (
    COMPLETED,
    CREATED,
    FAILURES,
    RERUNS,
    RESOURCE_SECONDS,
    RESOURCE_SUBMITTING,
    RUNNING,
    SUBMITTING,
    Increments,
    add_counters,
    add_histograms,
    bounds_by_family,
)
from exporter.counting.released import Released, released_with, stands_for_type
from exporter.counting.rules import CountingRules
from exporter.ledger.database import Database
from exporter.model import OTHER, CounterValue, Exemplar, HistogramValue, SeriesKey

_KEEP_COUNTER = """
    INSERT INTO counters (target, family, job_type, status, msg_code, released, value, exemplar, created_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, family, job_type, status, msg_code) DO UPDATE SET released = excluded.released,
        value = excluded.value, exemplar = excluded.exemplar, created_ms = excluded.created_ms
"""
_KEEP_HISTOGRAM = """
    INSERT INTO histograms (target, family, job_type, status, resource_spec, released, value)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, family, job_type, status, resource_spec) DO UPDATE SET
        released = excluded.released, value = excluded.value
"""
_KEEP_SECONDS = """
    INSERT INTO resource_seconds (target, family, job_type, status, released, value, created_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, family, job_type, status) DO UPDATE SET released = excluded.released,
        value = excluded.value, created_ms = excluded.created_ms
"""
# What names a series in each table, beside its target: fields of SeriesKey.
_SERIES = {
    "counters": ("family", "job_type", "status", "msg_code"),
    "histograms": ("family", "job_type", "status", "resource_spec"),
    "resource_seconds": ("family", "job_type", "status"),
}
_FAMILIES = {
    "counters": (CREATED, COMPLETED, FAILURES, RERUNS),
    "histograms": (SUBMITTING, RUNNING, RESOURCE_SUBMITTING),
    "resource_seconds": RESOURCE_SECONDS,
}
# "" and "other" are among them.
SPECS_WITH_SERIES = f"""
    SELECT resource_spec FROM histograms WHERE target = :target AND family = '{RESOURCE_SUBMITTING}'
"""  # noqa: S608 - constants only
# No sum comes near so many digits, and Python refuses to read thousands of them.
_SUM = re.compile("[0-9]{1,100}")
_BEGINNING_OTHERWISE = """
    SELECT family, job_type, status, resource_spec, value FROM histograms WHERE target = ? AND ({others})
"""
_OTHER = "family = ? AND substr(value, 1, ?) <> ?"
_EMPTY_HISTOGRAM = """
    UPDATE histograms SET value = ?, released = 0
    WHERE target = ? AND family = ? AND job_type = ? AND status = ? AND resource_spec = ?
"""
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


def known_family(table: str, family: str) -> str:
    """Check the name of a family. Raises: ValidationError (damaged)."""
    families = _FAMILIES[table]
    if family not in families:
        raise msgspec.ValidationError(f"found {family!r}, expected one of {', '.join(families)}")
    return family


def known_sum(text: str) -> int:
    """Read what runs have used. Raises: ValidationError (damaged)."""
    if not _SUM.fullmatch(text):
        raise msgspec.ValidationError("found another text, expected a sum as a decimal number")
    return int(text)


def known_codes(db: Database, target: int) -> set[str]:
    """Give the error codes that have a series of their own."""
    rows = db.execute(
        "SELECT DISTINCT msg_code FROM counters WHERE target = ? AND family = ? AND msg_code NOT IN ('', ?)",
        (target, FAILURES, OTHER),
    )
    return {code for (code,) in rows}


def known_specs(db: Database, target: int) -> set[str]:
    """Give the resource specs that have series, "" and "other" among them."""
    return {spec for (spec,) in db.execute(SPECS_WITH_SERIES, {"target": target})}


def read_counters(db: Database, target: int) -> dict[SeriesKey, tuple[bool, CounterValue]]:
    """Give every counter of a target, and whether it is released."""
    rows = db.execute(
        """
        SELECT family, job_type, status, msg_code, released, value, exemplar, created_ms
        FROM counters WHERE target = ?
        """,
        (target,),
    )
    return {
        SeriesKey(known_family("counters", family), job_type, status, code): (
            bool(released),
            CounterValue(value, None if exemplar is None else _exemplar(exemplar), created_ms),
        )
        for family, job_type, status, code, released, value, exemplar, created_ms in rows
    }


def read_resource_seconds(db: Database, target: int) -> dict[SeriesKey, tuple[bool, CounterValue]]:
    """Give what the runs of a target have used (Increments.resource_seconds); whether it is released."""
    rows = db.execute(
        """
        SELECT family, job_type, status, released, value, created_ms FROM resource_seconds WHERE target = ?
        """,
        (target,),
    )
    return {
        SeriesKey(known_family("resource_seconds", family), job_type, status): (
            bool(released),
            CounterValue(known_sum(value), created_ms=created_ms),
        )
        for family, job_type, status, released, value, created_ms in rows
    }


def read_histograms(
    db: Database, target: int, rules: CountingRules
) -> dict[SeriesKey, tuple[bool, HistogramValue]]:
    """
    Give every histogram of a target, and whether it is released. One of other bounds than those asked for is
    empty and new; since when, no commit has said yet.
    """
    rows = db.execute(
        "SELECT family, job_type, status, resource_spec, released, value FROM histograms WHERE target = ?",
        (target,),
    )
    read = {
        SeriesKey(known_family("histograms", family), job_type, status, resource_spec=spec): (
            bool(released),
            _histogram(value),
        )
        for family, job_type, status, spec, released, value in rows
    }
    wanted = bounds_by_family(rules)
    return {
        key: (released, value) if value.bounds == bounds else (False, HistogramValue.empty(bounds))
        for key, (released, value) in read.items()
        for bounds in [wanted[key.family]]
    }


def add_to_series(db: Database, target: int, increments: Increments, new_series: NewSeries) -> None:
    """Add a poll's increments. A series without a row is new, or was shown with its job type, at 0."""
    rows: list[tuple[object, ...]] = []
    for key, released, counter in _sums(increments.counters, partial(read_counters, db, target), new_series):
        exemplar = None if counter.exemplar is None else _encode(counter.exemplar).decode()
        labels = key.family, key.job_type, key.status, key.msg_code
        rows.append((target, *labels, int(released), counter.value, exemplar, counter.created_ms))
    db.executemany(_KEEP_COUNTER, rows)
    used = _sums(increments.resource_seconds, partial(read_resource_seconds, db, target), new_series)
    rows = [
        (target, key.family, key.job_type, key.status, int(released), str(sum_.value), sum_.created_ms)
        for key, released, sum_ in used
    ]
    db.executemany(_KEEP_SECONDS, rows)
    observed = increments.histograms
    histograms = read_histograms(db, target, increments.rules) if observed else {}
    rows = []
    for key, increase in observed.items():
        empty = replace(HistogramValue.empty(increase.bounds), created_ms=new_series.created_ms(key))
        released, histogram = histograms.get(key, (new_series.is_released(key), empty))
        value_json = _encode(add_histograms(histogram, increase)).decode()
        labels = key.family, key.job_type, key.status, key.resource_spec
        rows.append((target, *labels, int(released), value_json))
    db.executemany(_KEEP_HISTOGRAM, rows)


def _sums(
    added: Mapping[SeriesKey, CounterValue],
    read: Callable[[], dict[SeriesKey, tuple[bool, CounterValue]]],
    new_series: NewSeries,
) -> Iterator[tuple[SeriesKey, bool, CounterValue]]:
    """Give the counters that grow, with their new values, and whether they are released."""
    known = read() if added else {}
    for key, increase in added.items():
        new = new_series.is_released(key), CounterValue(created_ms=new_series.created_ms(key))
        released, value = known.get(key, new)
        yield key, released, add_counters(value, increase)


def release_rows(db: Database, target: int, keys: Collection[SeriesKey]) -> None:
    """Release the series that have rows and go with these keys."""
    wanted = frozenset(keys)
    for table, names in _SERIES.items():
        held = f"SELECT {', '.join(names)} FROM {table} WHERE target = ? AND released = 0"  # noqa: S608 - constants only
        rows = [dict(zip(names, row, strict=True)) for row in db.execute(held, (target,)).fetchall()]
        released = [row for row in rows if released_with(_key(table, **row)) in wanted]
        this = " AND ".join(f"{name} = ?" for name in names)
        release = f"UPDATE {table} SET released = 1 WHERE target = ? AND {this}"  # noqa: S608 - constants only
        db.executemany(release, [(target, *row.values()) for row in released])


def _key(table: str, family: str, **labels: str) -> SeriesKey:
    return SeriesKey(known_family(table, family), **labels)


def empty_changed_histograms(db: Database, target: int, rules: CountingRules, now_ms: int) -> None:
    """Restart at 0 the histograms whose bounds are no longer the configured ones."""
    bounds = bounds_by_family(rules)
    empty = {
        family: _encode(replace(HistogramValue.empty(wanted), created_ms=now_ms)).decode()
        for family, wanted in bounds.items()
    }
    # What this version writes begins like this. Only another text has to be read to know its bounds.
    given: list[object] = [target]
    for family, value in empty.items():
        beginning = value[: value.index("]") + 1]
        given += [family, len(beginning), beginning]
    others = _BEGINNING_OTHERWISE.format(others=" OR ".join([_OTHER] * len(empty)))
    rows = db.execute(others, given).fetchall()
    changed = [row for *row, value in rows if _histogram(value).bounds != bounds[row[0]]]
    db.executemany(_EMPTY_HISTOGRAM, [(empty[row[0]], target, *row) for row in changed])
