"""
Whether the values of a ledger can be read: those that are decoded, and those that are shown target by target.

Of `jobs`, which may have millions of rows, it looks at those in flight only. SQLite's own check knows the
types of the others, and none of their values is decoded. Nor does it look at `events`: one that cannot be
read is left out when it is its turn.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from exporter.counting.released import Released
from exporter.ledger.labels import KeptLabels
from exporter.ledger.series import known_family, known_sum
from exporter.model import Exemplar, HistogramValue
from exporter.sync.ledger import Audit
from exporter.sync.server_traits import Filters, ServerTraits

_TABLES = {
    "targets": "targets",
    "listing": "listing",
    "jobs": "jobs INDEXED BY jobs_in_flight",
    "counters": "counters",
    "histograms": "histograms",
    "resource_jobs": "resource_jobs",
    "resource_seconds": "resource_seconds",
    "hourly_runs": "hourly_runs",
    "set_apart": "set_apart",
}
_LARGEST = 2**63
_MANY_DIGITS = re.compile(rb"\d{19}")

_Check = Callable[[Any], str | None]


def first_unreadable(db: sqlite3.Connection, target: int | None = None) -> str | None:
    """Name the first value that cannot be read, of one target or of all; None where all can."""
    with _texts_as_bytes(db):
        return next((found for table in _TABLES if (found := _in_table(db, table, target))), None)


@contextmanager
def _texts_as_bytes(db: sqlite3.Connection) -> Iterator[None]:
    """Leave it to us to decode texts, so that we know whose is broken."""
    before, db.text_factory = db.text_factory, bytes
    try:
        yield
    finally:
        db.text_factory = before


def _in_table(db: sqlite3.Connection, table: str, target: int | None) -> str | None:
    owner = "id" if table == "targets" else "target"
    columns = [
        (name.decode(), kind.decode(), bool(required))
        for name, kind, required in db.execute(
            'SELECT name, type, "notnull" OR pk FROM pragma_table_xinfo(?)', (table,)
        )
    ]
    checks = [_check(table, *column) for column in columns]
    at = next(number for number, (name, *_) in enumerate(columns) if name == owner)
    condition = "in_flight = 1" if table == "jobs" else "1"
    rows = db.execute(
        f"SELECT * FROM {_TABLES[table]} WHERE {condition} AND (:target IS NULL OR {owner} = :target)",  # noqa: S608 - constants only
        {"target": target},
    )
    for row in rows:
        for value, check, (column, *_) in zip(row, checks, columns, strict=True):
            problem = check(value)
            if problem is not None:
                return f"{table}.{column} of {_named(db, row[at])}: {problem}"
    return None


def _named(db: sqlite3.Connection, target: object) -> str:
    row = db.execute("SELECT project, workspace FROM targets WHERE id = ?", (target,)).fetchone()
    if row is None or not all(isinstance(name, bytes) for name in row):
        return f"target {target}"
    project, workspace = (name.decode(errors="replace") for name in row)
    return f"project {project}, workspace {workspace}"


def _check(table: str, column: str, kind: str, required: bool) -> _Check:
    decode = _DECODED.get((table, column), bytes.decode)

    def problem(value: Any) -> str | None:
        if value is None:
            return "found nothing" if required else None
        if isinstance(value, int):
            return None if kind == "INTEGER" else "found a number, expected text"
        if not isinstance(value, bytes):
            return f"found {value!r}, expected {kind}"
        return _undecodable(value, decode) if kind == "TEXT" else "found text, expected a number"

    return problem


def _undecodable(text: bytes, decode: Callable[[bytes], object]) -> str | None:
    try:
        decode(text)
    except UnicodeDecodeError:
        return "found text that is not UTF-8"
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        return str(exc)
    return None


def _reading(kind: Any) -> Callable[[bytes], Any]:
    """Give what decodes this kind of value, and refuses numbers that no column and no metric can hold."""
    decode = msgspec.json.Decoder(kind).decode

    def read(text: bytes) -> Any:
        text.decode()
        value = decode(text)
        if _MANY_DIGITS.search(text) and not _fit(msgspec.to_builtins(value)):
            raise ValueError("found a number of more than 64 bits")
        return value

    return read


def _fit(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_fit, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_fit, value))
    return not isinstance(value, int) or abs(value) < _LARGEST


def _histogram(text: bytes) -> None:
    value = _as_histogram(text)
    if not len(value.bounds) + 1 == len(value.counts) == len(value.exemplars):
        raise ValueError("the numbers of bounds, counts and exemplars do not fit")


def _family_in(table: str) -> Callable[[bytes], str]:
    return lambda text: known_family(table, text.decode())


_as_histogram = _reading(HistogramValue)
_DECODED: dict[tuple[str, str], Callable[[bytes], object]] = {
    ("targets", "baselines"): _reading(dict[str, int | None]),
    ("targets", "shown_types"): _reading(dict[str, int]),
    ("targets", "filters"): _reading(Filters),
    ("targets", "audit"): _reading(Audit),
    ("targets", "server"): _reading(ServerTraits),
    ("targets", "labels"): _reading(KeptLabels),
    ("targets", "released"): _reading(Released),
    ("targets", "unreadable_specs"): _reading(tuple[str, ...]),
    ("counters", "family"): _family_in("counters"),
    ("counters", "exemplar"): _reading(Exemplar),
    ("histograms", "family"): _family_in("histograms"),
    ("histograms", "value"): _histogram,
    ("resource_seconds", "family"): _family_in("resource_seconds"),
    ("resource_seconds", "value"): lambda text: known_sum(text.decode()),
}
