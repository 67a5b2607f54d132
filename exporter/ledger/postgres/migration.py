"""
A PostgreSQL ledger at one of the ends of `migrate` (ledger.migration).

The table of the replicas is locked while it lasts. So no exporter gets a lease of the ledger that is copied,
or of the one that the copy goes to, before all is done.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import errors

from exporter.config import LedgerSettings
from exporter.errors import LedgerError, StartError
from exporter.ledger.migration import (
    ROWS_AT_ONCE,
    TABLES,
    MigrationSource,
    MigrationTarget,
    Numbering,
    Rows,
)
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.database import PostgresDatabase, storable

# A heartbeat takes milliseconds. What holds its lock for longer is no exporter of ours.
_LOCKING_SECONDS = 10
# Copied with their numbers, which the server would otherwise give anew.
_NUMBERED = ("targets.id", "failed_runs.rowid", "events.id")


class PostgresCopy:
    """Implements MigrationSource and MigrationTarget, in a transaction of its caller."""

    def __init__(self, database: LedgerDatabase, db: PostgresDatabase) -> None:
        self._database = database
        self._db = db

    def sizes(self) -> dict[str, int]:
        with self.failing():
            counts = {table: f"SELECT count(*) FROM {table}" for table in TABLES}  # noqa: S608 - constants
            return {table: self._db.execute(count).fetchone()[0] for table, count in counts.items()}

    def size_bytes(self) -> int:
        with self.failing():
            tables = "{" + ",".join(TABLES) + "}"
            (size,) = self._db.execute(
                "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(?::text[]) AS name", (tables,)
            ).fetchone()
        return int(size)

    def columns(self, table: str) -> tuple[str, ...]:
        with self.failing():
            found = self._db.execute(
                """
                SELECT attname FROM pg_attribute
                WHERE attrelid = ?::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
                """,
                (table,),
            ).fetchall()
        return tuple(name for (name,) in found)

    def rows(self, table: str, columns: Sequence[str]) -> Generator[Rows]:
        names = ", ".join(columns)
        with self.failing():
            # A cursor on the server: the client would take the whole answer into its memory.
            self._db.execute(
                f"DECLARE copied NO SCROLL CURSOR FOR SELECT {names} FROM {table} ORDER BY {TABLES[table]}"  # noqa: S608 - names of columns
            )
            while rows := self._db.execute(f"FETCH {ROWS_AT_ONCE} FROM copied").fetchall():
                yield rows
            self._db.execute("CLOSE copied")

    def write(self, table: str, columns: Sequence[str], portions: Iterator[Rows]) -> None:
        with (
            self.failing(),
            self._db.connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy,
        ):
            for rows in portions:
                for row in rows:
                    copy.write_row([storable(value) for value in row])

    def numbering(self) -> Numbering:
        with self.failing():
            (last,) = self._db.execute(
                "SELECT pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass)"
            ).fetchone()
            fences = self._db.execute("SELECT target, fence FROM leases").fetchall()
        return Numbering(last or 0, dict(fences))

    def number(self, numbering: Numbering) -> None:
        with self.failing():
            for column in _NUMBERED:
                table, _, name = column.partition(".")
                (highest,) = self._db.execute(f"SELECT coalesce(max({name}), 0) FROM {table}").fetchone()  # noqa: S608 - constants
                if table == "events":
                    highest = max(highest, numbering.last_event)
                if highest:
                    self._db.execute("SELECT setval(pg_get_serial_sequence(?, ?), ?)", (table, name, highest))
            self._db.executemany("INSERT INTO leases (target, fence) VALUES (?, ?)", numbering.fences.items())
            # The exporter polls at once, and the server's own look at the rows comes a minute later.
            self._db.execute(f"ANALYZE {', '.join(TABLES)}")

    @contextmanager
    def failing(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as exc:
            raise self._database.explained(exc) from exc


@contextmanager
def postgres_source(settings: LedgerSettings) -> Iterator[MigrationSource]:
    """
    Read a ledger that no exporter uses, as it is at one moment.

    Raises: StartError (no ledger of this version, in use); LedgerError.
    """
    database = LedgerDatabase(settings)
    db = database.open(makes=False)
    with db.connection:
        copy = PostgresCopy(database, db)
        with copy.failing():
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        _lock(copy, database, db)
        yield copy


@contextmanager
def postgres_target(settings: LedgerSettings) -> Iterator[MigrationTarget]:
    """
    Write a ledger into an empty database: all in one transaction.

    Raises: StartError (not empty, in use, another program's database); LedgerError.
    """
    database = LedgerDatabase(settings)
    db = database.open()
    with db.connection:
        copy = PostgresCopy(database, db)
        with copy.failing():
            db.execute("BEGIN")
        _lock(copy, database, db)
        found = {table: rows for table, rows in copy.sizes().items() if rows}
        if found:
            what = ", ".join(f"{rows} {table}" for table, rows in found.items())
            raise StartError(f"{database.name}: it is not empty ({what}), expected a new database")
        yield copy
        _commit(database, db)


def _lock(copy: PostgresCopy, database: LedgerDatabase, db: PostgresDatabase) -> None:
    """Keep exporters away. Raises: StartError."""
    try:
        db.execute(f"SET LOCAL lock_timeout = '{_LOCKING_SECONDS}s'")
        db.execute("LOCK TABLE replicas, leases IN EXCLUSIVE MODE")
    except errors.LockNotAvailable:
        raise StartError(f"{database.name}: in use: another program has locked its leases") from None
    except psycopg.Error as exc:
        raise database.explained(exc) from exc
    with copy.failing():
        # One that was stopped has told that it wants no target any more, and does not renew itself.
        alive = db.execute(
            """
            SELECT name, ceil(extract(epoch FROM until - now())) FROM replicas
            WHERE until > now()
                AND (targets <> '{}' OR EXISTS (SELECT 1 FROM leases WHERE leases.holder = replicas.name))
            """
        ).fetchone()
    if alive is not None:
        name, seconds = alive
        raise StartError(
            f"{database.name}: in use by the exporter {name}: stop all of them first (one that has died holds"
            f" its lease for {seconds:.0f} s more)"
        )


def _commit(database: LedgerDatabase, db: PostgresDatabase) -> None:
    try:
        answer = db.commit()
    except psycopg.OperationalError as exc:
        raise LedgerError(
            f"{database.explained(exc)}: the answer to COMMIT is missing, so all was copied or nothing: the"
            " same command says which"
        ) from exc
    if answer != "COMMIT":
        raise LedgerError(f"{database.name}: the server has rolled everything back, so nothing was copied")
