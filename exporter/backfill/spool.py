"""The moments of all jobs, on the disk and in order of time: memory stays flat however many they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import msgspec

from exporter.backfill.past import PastKind, PastMoment
from exporter.errors import BackfillError, one_line
from exporter.model import Job

_MOMENTS = """
    CREATE TABLE moments (
        target INTEGER, at_ms INTEGER, kind INTEGER, job_id INTEGER, flags INTEGER, job BLOB,
        PRIMARY KEY (target, at_ms, kind, job_id)
    ) WITHOUT ROWID
"""
_ADD = "INSERT INTO moments VALUES (?, ?, ?, ?, ?, ?)"
_READ = """
    SELECT at_ms, kind, flags, job FROM moments
    WHERE target = ? AND at_ms > ? AND at_ms <= ? ORDER BY at_ms, kind, job_id
"""
_COUNTED, _SHOWN, _FAILED = 1, 2, 4
_CACHE_KIB = 32_000
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple).decode


class Spool:
    """
    A temporary SQLite database, made by `opened_spool`.

    Raises: BackfillError from every method (its disk is full).
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, target: int, job: Job, moments: Iterable[PastMoment], *, failed: bool) -> None:
        """Keep moments of a job; `target` is the number of its target in the plan."""
        row = _encode(_without_texts(job))
        flag = _FAILED if failed else 0
        with _explaining():
            self._db.executemany(
                _ADD,
                (
                    (
                        target,
                        moment.at_ms,
                        moment.kind,
                        job.id,
                        flag | (_COUNTED if moment.counted else 0) | (_SHOWN if moment.shown else 0),
                        row,
                    )
                    for moment in moments
                ),
            )

    def moments(self, target: int, after_ms: int, to_ms: int) -> Iterator[tuple[Job, PastMoment, bool]]:
        """Give the moments after `after_ms` up to and at `to_ms`, in order, and whether each run failed."""
        with _explaining():
            for at_ms, kind, flags, row in self._db.execute(_READ, (target, after_ms, to_ms)):
                moment = PastMoment(at_ms, PastKind(kind), bool(flags & _COUNTED), bool(flags & _SHOWN))
                yield Job(*_decode(row)), moment, bool(flags & _FAILED)


def _without_texts(job: Job) -> tuple[object, ...]:
    """Give the fields of a job without those that decide no count."""
    fields = msgspec.structs.astuple(job)
    return tuple(
        "" if name in ("msg_error", "data_id") else value
        for name, value in zip(Job.__struct_fields__, fields, strict=True)
    )


@contextmanager
def opened_spool() -> Iterator[Spool]:
    """
    Make a spool in the folder for temporary files (SQLITE_TMPDIR, TMPDIR or /var/tmp).

    SQLite deletes its file at once, so nothing is left, however the process ends.
    """
    with _explaining(), closing(sqlite3.connect("", isolation_level=None)) as db:
        # The file need not survive a crash, and nothing is rolled back.
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            db.execute(f"PRAGMA {setting}")
        db.execute(_MOMENTS)
        db.execute("BEGIN")
        yield Spool(db)


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise BackfillError(
            f"the folder for temporary files: {one_line(str(exc))} (SQLITE_TMPDIR names another folder)"
        ) from exc
