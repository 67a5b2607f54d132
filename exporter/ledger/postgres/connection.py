"""
From a URL to a connection with a PostgreSQL database that is a ledger; from an error to one readable line.

A migration is one transaction, under a lock that lets replicas which start together migrate once. A database
that is refused is left as it was.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from exporter.config import LedgerSettings
from exporter.errors import ConfigError, LedgerError, StartError, one_line
from exporter.ledger.database import Damaged
from exporter.ledger.postgres.database import PostgresDatabase, WholeNumber
from exporter.ledger.postgres.schema import LEDGER_TABLES, MIGRATIONS, VERSION
from exporter.masking import MASK

# What the URL does not say. A server that is gone without a word is noticed within some 15 seconds.
_DEFAULTS: dict[str, Any] = {
    "application_name": "octopus-exporter",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "4",
    "tcp_user_timeout": "12000",
}
# "octp": no other program locks this number while it migrates.
_MIGRATION_LOCK = 0x6F637470
_VERSION = "SELECT version FROM schema_version WHERE application = 'octopus-exporter'"
_WRITES = "SELECT, INSERT, UPDATE, DELETE"


class UnusableDatabase(Exception):
    """The database is not a ledger, or this version cannot use it."""


@dataclass(frozen=True, slots=True)
class LedgerDatabase:
    """
    The database that the configuration names.

    Shape: `reads_only` for commands that look at a ledger; a standby will do for them.
    """

    settings: LedgerSettings
    reads_only: bool = False

    @property
    def name(self) -> str:
        return f"ledger {self.settings.url}"

    def connect(self) -> PostgresDatabase:
        """Connect, whatever the database holds; that blocks. Raises: psycopg.Error, ConfigError."""
        url, password = self.settings.url, self.settings.password
        # The password is read anew each time: it may have been rotated.
        own = {} if password is None else {"password": password.get()}
        if self.reads_only:
            own["target_session_attrs"] = "any"
        given = {**_DEFAULTS, **conninfo_to_dict(url.url.get(), **own)}
        # Of several hosts, the one that takes writes is looked for. A single one is not asked: a PgBouncer
        # that began while its server was a standby says that it is one, for as long as it runs.
        if "," in given.get("host", "") + given.get("hostaddr", ""):
            given.setdefault("target_session_attrs", "read-write")
        connection = psycopg.connect(
            **given,
            client_encoding="utf8",
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.ClientCursor,
        )
        connection.adapters.register_loader("numeric", WholeNumber)
        return PostgresDatabase(connection)

    def open(self, *, makes: bool = True) -> PostgresDatabase:
        """
        Connect, and make or migrate the tables; that blocks.

        Shape: without `makes` the tables have to be there, as this version has them. Raises: StartError.
        """
        try:
            db = self.connect()
            try:
                (prepare if makes and not self.reads_only else check_to_read)(db)
            except BaseException:
                db.connection.close()
                raise
        except (psycopg.Error, UnusableDatabase, ConfigError) as exc:
            raise StartError(f"{self.name}: {self._reason(exc)}") from exc
        return db

    def explained(self, exc: Exception) -> Exception:
        """Say what is wrong with the database; a fault of this program stays as it is."""
        if isinstance(exc, LedgerError):
            return exc
        known = (psycopg.Error, UnusableDatabase, ConfigError, Damaged)
        # What the others say: a number of more than 64 bits, a value that another program has changed.
        if not isinstance(exc, (*known, OverflowError, UnicodeError, msgspec.MsgspecError)):
            return exc
        error = LedgerError(f"{self.name}: {self._reason(exc)}")
        error.__cause__ = exc
        return error

    def _reason(self, exc: Exception) -> str:
        """Say in one line what went wrong, without a password."""
        text = reason(exc)
        secrets = {*self.settings.url.passwords}
        with suppress(ConfigError):
            secrets.update(self.settings.passwords())
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text


def reason(exc: Exception) -> str:
    """Say in one line what went wrong."""
    if isinstance(exc, (Damaged, msgspec.MsgspecError)):
        return f"damaged: {one_line(str(exc))}"
    if not isinstance(exc, psycopg.Error):
        return one_line(str(exc))
    text = exc.diag.message_primary
    if text is None:
        # libpq adds an explanation, and all its attempts, on lines of their own.
        text = str(exc).partition("\n")[0].removeprefix("connection failed: ")
    if isinstance(exc, errors.InsufficientPrivilege):
        text += f"; the ledger's user needs {_WRITES} on its tables"
    elif isinstance(exc, errors.UndefinedTable):
        text += "; the tables of the ledger are gone"
    return one_line(text)


def is_lost(db: PostgresDatabase) -> bool:
    """Tell whether a connection has ended."""
    return db.connection.closed or db.connection.broken


def prepare(db: PostgresDatabase) -> None:
    """
    Make or migrate the tables, and make sure that they may be written.

    Raises: psycopg.Error, UnusableDatabase.
    """
    if schema_version(db) < VERSION:
        try:
            with db.connection.transaction():
                db.execute("SELECT pg_advisory_xact_lock(?)", (_MIGRATION_LOCK,))
                # Another replica may have done it meanwhile.
                _migrate(db, schema_version(db))
        except errors.InsufficientPrivilege as exc:
            raise UnusableDatabase(
                f"{exc.diag.message_primary}; to make or migrate the tables, the ledger's user must be the"
                " owner of the database"
            ) from exc
    _check_grants(db, _WRITES)


def check_to_read(db: PostgresDatabase) -> None:
    """Make sure that a ledger of this version is there. Raises: psycopg.Error, UnusableDatabase."""
    version = schema_version(db)
    if version == 0:
        raise UnusableDatabase("there is no ledger in this database yet, `octopus-exporter run` makes it")
    if version < VERSION:
        raise UnusableDatabase(f"written by an older version (schema {version}): `run` brings it up to date")
    _check_grants(db, "SELECT")


def schema_version(db: PostgresDatabase) -> int:
    """
    Give the version of a ledger's schema, 0 where the database has no tables of one.

    Raises: psycopg.Error, UnusableDatabase (another program's tables, a newer schema).
    """
    (encoding,) = db.execute("SHOW server_encoding").fetchone()
    if encoding != "UTF8":
        raise UnusableDatabase(f"the database has the encoding {encoding}, expected UTF8")
    # The use of pg_class makes the server take note of tables that other sessions made since this transaction
    # began. to_regclass alone remembers from the first look that they were not there.
    found = {
        table
        for (table,) in db.execute(
            "SELECT relname FROM unnest(?::text[]) AS name JOIN pg_class ON pg_class.oid = to_regclass(name)",
            ("{" + ",".join(LEDGER_TABLES) + "}",),
        )
    }
    if not found:
        return 0
    marked = db.execute(
        """
        SELECT 1 FROM pg_attribute
        WHERE attrelid = to_regclass('schema_version') AND attname = 'application'
        """
    ).fetchone()
    row = None
    if marked is not None:
        row = db.execute(_VERSION).fetchone()
    if row is None:
        raise UnusableDatabase(
            f"not a ledger of octopus-exporter: it has a table {min(found)} of another program,"
            " expected an empty database"
        )
    check_version(row[0])
    return int(row[0])


def check_version(version: int) -> None:
    """Raises: UnusableDatabase."""
    if version > VERSION:
        raise UnusableDatabase(f"written by a newer version (schema {version}; this one knows {VERSION})")


def refuse_newer(db: PostgresDatabase) -> None:
    """Make sure that no newer version has changed the tables meanwhile. Raises: UnusableDatabase."""
    (version,) = db.execute(_VERSION).fetchone()
    check_version(version)


def _migrate(db: PostgresDatabase, version: int) -> None:
    if version:
        # Whoever writes holds a lock on its lease. What has begun ends before the tables change, and what
        # begins later sees the new version.
        db.execute("LOCK TABLE leases IN EXCLUSIVE MODE")
    for migration in MIGRATIONS[version:]:
        for statement in migration:
            db.execute(statement)
    db.execute("UPDATE schema_version SET version = ?", (VERSION,))


def _check_grants(db: PostgresDatabase, needed: str) -> None:
    """Name the first table that may not be used as it is needed. Raises: UnusableDatabase."""
    refused = db.execute(
        """
        SELECT name, privilege FROM unnest(?::text[]) AS name, unnest(?::text[]) AS privilege
        WHERE NOT has_table_privilege(name, privilege) LIMIT 1
        """,
        ("{" + ",".join(LEDGER_TABLES) + "}", "{" + needed + "}"),
    ).fetchone()
    if refused is not None:
        table, privilege = refused
        raise UnusableDatabase(
            f"the user has no right to {privilege} on the table {table}, expected {needed} on all tables of"
            " the ledger"
        )
