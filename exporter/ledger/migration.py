"""
Copies a ledger into another one, whatever the back ends: every row of it, or nothing.

What belongs to the sharing of a ledger (leases, replicas) is not copied: it says who polled what until now.
Only the fences go on where both ends are PostgreSQL, because a fence never goes back.

No exporter may write to either end. So a SQLite file is locked as `run` locks it, and of a PostgreSQL ledger
the table of the leases. The rows are read and written in portions: memory does not grow with the ledger.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from exporter.errors import LedgerError, StartError
from exporter.ledger.connection import (
    FAILURES,
    check,
    connect,
    connect_to_read,
    existing,
    reason,
    tolerant_text,
)
from exporter.ledger.file import LedgerFile

# What is copied, and in which order the rows are read: that of their key, so that they are written in one
# stride. Targets come first, because the other tables refer to them.
TABLES = {
    "targets": "id",
    "jobs": "target, id",
    "listing": "target, job_type, status, in_flight",
    "counters": "target, family, job_type, status, msg_code",
    "histograms": "target, family, job_type, status, resource_spec",
    "resource_jobs": "target, job_type, resource_spec, status",
    "resource_seconds": "target, family, job_type, status",
    "set_apart": "target, key",
    "failed_runs": "rowid",
    "hourly_runs": "target, hour, job_type, status, failed",
    "events": "id",
}
# The column that SQLite has without declaring it. Pages of /api/v1/failures go by it.
ROW_NUMBER = {"failed_runs": ("rowid",)}
ROWS_AT_ONCE = 2_000

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Numbering:
    """
    What must not be given out again: the number of the last event, and the fence of each target by its id.
    """

    last_event: int = 0
    fences: dict[int, int] = field(default_factory=dict)


class MigrationSource(Protocol):
    """A ledger that is copied. Raises: LedgerError."""

    def sizes(self) -> dict[str, int]:
        """Count the rows of each table."""

    def columns(self, table: str) -> tuple[str, ...]: ...

    def rows(self, table: str, columns: Sequence[str]) -> Generator[Rows]:
        """Read the rows of a table, in portions."""

    def numbering(self) -> Numbering: ...

    def size_bytes(self) -> int: ...


class MigrationTarget(Protocol):
    """An empty ledger that a copy goes to. Raises: LedgerError."""

    def columns(self, table: str) -> tuple[str, ...]: ...

    def write(self, table: str, columns: Sequence[str], portions: Iterator[Rows]) -> None: ...

    def number(self, numbering: Numbering) -> None: ...

    def sizes(self) -> dict[str, int]: ...

    def size_bytes(self) -> int: ...


def copy_ledger(
    source: MigrationSource, target: MigrationTarget, on_rows: Callable[[str, int], None]
) -> dict[str, int]:
    """
    Copy all there is, and count it on the other side. Nothing is there for good before the target is left.

    Shape: `on_rows` gets a table and how many more of its rows were read. Raises: LedgerError.
    """
    sizes = source.sizes()
    for table in TABLES:
        known = source.columns(table)
        # What only PostgreSQL has says how the last polls went. The next poll says it anew.
        columns = [name for name in target.columns(table) if name in known]
        # Closed also after an error, so that nothing of the source stays open.
        with closing(source.rows(table, columns)) as portions:
            target.write(table, columns, _counted(portions, table, on_rows))
    target.number(source.numbering())
    written = target.sizes()
    if written != sizes:
        differing = ", ".join(
            f"{table}: {written[table]} of {rows}" for table, rows in sizes.items() if written[table] != rows
        )
        raise LedgerError(f"not all rows arrived, so nothing was copied: {differing}")
    return sizes


def _counted(portions: Iterator[Rows], table: str, on_rows: Callable[[str, int], None]) -> Iterator[Rows]:
    for rows in portions:
        yield rows
        on_rows(table, len(rows))


class SqliteCopy:
    """A SQLite ledger at one of the ends; implements MigrationSource and MigrationTarget."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path

    def sizes(self) -> dict[str, int]:
        with self._failing():
            counts = {table: f"SELECT count(*) FROM {table}" for table in TABLES}  # noqa: S608 - constants
            return {table: self._db.execute(count).fetchone()[0] for table, count in counts.items()}

    def columns(self, table: str) -> tuple[str, ...]:
        with self._failing():
            found = self._db.execute("SELECT name FROM pragma_table_xinfo(?)", (table,)).fetchall()
        return (*ROW_NUMBER.get(table, ()), *(name for (name,) in found))

    def rows(self, table: str, columns: Sequence[str]) -> Generator[Rows]:
        # Their texts decide no count: one that is damaged must not keep a ledger where it is.
        self._db.text_factory = tolerant_text if table in ("failed_runs", "events") else str
        with self._failing():
            statement = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {TABLES[table]}"  # noqa: S608 - names of columns
            with closing(self._db.execute(statement)) as cursor:
                while rows := cursor.fetchmany(ROWS_AT_ONCE):
                    yield rows

    def write(self, table: str, columns: Sequence[str], portions: Iterator[Rows]) -> None:
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - names of columns
        for rows in portions:
            with self._failing():
                self._db.executemany(statement, rows)

    def numbering(self) -> Numbering:
        with self._failing():
            row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return Numbering(0 if row is None else row[0])

    def size_bytes(self) -> int:
        with self._failing():
            (size,) = self._db.execute(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).fetchone()
        return int(size)

    def number(self, numbering: Numbering) -> None:
        with self._failing():
            self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
            self._db.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (numbering.last_event,))

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as exc:
            raise LedgerError(f"ledger {self._path}: {reason(exc)}") from exc


@contextmanager
def sqlite_source(path: Path) -> Iterator[MigrationSource]:
    """Lock a ledger and read it. Raises: StartError (in use, damaged, of another version)."""
    path = existing(path)
    locked = LedgerFile.lock(path)
    try:
        # All of it, also what no poll reads: a copy of a damaged ledger would look sound.
        check(path)
        with closing(connect_to_read(path)) as db:
            db.execute("BEGIN")
            yield SqliteCopy(db, path)
    finally:
        locked.close()


@contextmanager
def sqlite_target(path: Path) -> Iterator[MigrationTarget]:
    """
    Make a new ledger, which is at its path once it is whole; after an error nothing is there.

    Raises: StartError (something is there, or it cannot be made); LedgerError.
    """
    path = path.absolute()
    if os.path.lexists(path):
        raise StartError(f"ledger {path}: it is there already, expected the name of a new file")
    unfinished = _unfinished(path)
    try:
        with closing(connect(unfinished)) as db:
            # Neither a log nor a journal: until it is whole, the file is of no use to anybody.
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("BEGIN")
            copy = SqliteCopy(db, path)
            yield copy
            with copy._failing():
                db.execute("COMMIT")
                db.execute("PRAGMA journal_mode = WAL")
        # As every ledger that is opened: what another program may have put into PostgreSQL is looked at.
        connect_to_read(unfinished).close()
        _put_in_place(unfinished, path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    try:
        descriptor, name = tempfile.mkstemp(".unfinished", f".{path.name}.", path.parent)
    except OSError as exc:
        raise StartError(f"ledger {path}: {exc.strerror or exc}: its folder must be writable") from exc
    # As `run` makes it (LedgerFile.lock), under the umask.
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(descriptor, 0o640 & ~mask)
    os.close(descriptor)
    return Path(name)


def _put_in_place(unfinished: Path, path: Path) -> None:
    try:
        _sync(unfinished)
        # Unlike a renaming it replaces no file that somebody has made meanwhile.
        with suppress(FileExistsError):
            os.link(unfinished, path)
            _sync(path.parent)
            return
    except OSError as exc:
        raise LedgerError(f"ledger {path}: {exc.strerror or exc}") from exc
    raise LedgerError(f"ledger {path}: another program has made it meanwhile, so nothing was copied")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
