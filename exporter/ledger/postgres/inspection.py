"""What `check --online` says of the PostgreSQL database of a ledger. It changes nothing there."""

from __future__ import annotations

import time

import psycopg

from exporter.config import LedgerSettings
from exporter.errors import ConfigError
from exporter.ledger.opening import LedgerFinding
from exporter.ledger.postgres.connection import LedgerDatabase, UnusableDatabase, schema_version
from exporter.ledger.postgres.database import PostgresDatabase
from exporter.ledger.postgres.schema import LEDGER_TABLES, VERSION

_NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE")
_MOST_NAMED = 3


def inspect(settings: LedgerSettings) -> list[LedgerFinding]:
    """Find out what works, each as a row, as far as the rows before allow; that blocks."""
    driver = f"psycopg {psycopg.__version__}, libpq {_readable(psycopg.pq.version())}"
    found = [LedgerFinding("driver", True, driver)]
    database = LedgerDatabase(settings)
    began = time.monotonic()
    try:
        db = database.connect()
    except (psycopg.Error, ConfigError) as exc:
        return [*found, LedgerFinding("connection", False, str(database.explained(exc)))]
    with db.connection:
        try:
            found.append(_connection(db, time.monotonic() - began))
            found.append(_durability(db))
            version = schema_version(db)
            found.append(_schema(version))
            found += _rights(db) if version else [_right_to_make(db)]
            if version == VERSION and all(one.works for one in found):
                found.append(_replicas(db))
        except UnusableDatabase as exc:
            found.append(LedgerFinding("schema", False, str(exc)))
        except psycopg.Error as exc:
            found.append(LedgerFinding("connection", False, str(database.explained(exc))))
    return found


def _readable(version: int) -> str:
    return f"{version // 10_000}.{version % 10_000}"


def _connection(db: PostgresDatabase, seconds: float) -> LedgerFinding:
    info = db.connection.info
    used, most = db.execute(
        """
        SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
            current_setting('max_connections')::int
        """
    ).fetchone()
    encrypted = "with TLS" if db.connection.pgconn.ssl_in_use else "without TLS"
    where = info.host or "its socket"
    return LedgerFinding(
        "connection",
        True,
        f"PostgreSQL {_readable(info.server_version)} at {where}, database {info.dbname}, user {info.user},"
        f" {encrypted}, in {seconds * 1000:.0f} ms; {used} of {most} connections in use",
    )


def _durability(db: PostgresDatabase) -> LedgerFinding:
    """Look for settings with which a crash of the server loses what was committed: counters would go back."""
    settings = dict(
        db.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit')"
        ).fetchall()
    )
    off = [f"{name} is off" for name, setting in sorted(settings.items()) if setting == "off"]
    if off:
        return LedgerFinding(
            "durability", True, f"warning: {', '.join(off)}: counters go back after a crash of the server"
        )
    return LedgerFinding("durability", True, f"synchronous_commit is {settings['synchronous_commit']}")


def _schema(version: int) -> LedgerFinding:
    if version == 0:
        return LedgerFinding("schema", True, "none yet: run makes it")
    newer = "" if version == VERSION else f", run brings it to {VERSION}"
    return LedgerFinding("schema", True, f"{version}{newer}")


def _rights(db: PostgresDatabase) -> list[LedgerFinding]:
    missing = db.execute(
        """
        SELECT privilege, name FROM unnest(?::text[]) AS name, unnest(?::text[]) AS privilege
        WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(name, privilege)
        ORDER BY name, privilege
        """,
        ("{" + ",".join(LEDGER_TABLES) + "}", "{" + ",".join(_NEEDED) + "}"),
    ).fetchall()
    (owns,) = db.execute(
        "SELECT pg_has_role(relowner, 'MEMBER') FROM pg_class WHERE oid = 'schema_version'::regclass"
    ).fetchone()
    if missing:
        named = ", ".join(f"{privilege} on {name}" for privilege, name in missing[:_MOST_NAMED])
        more = len(missing) - _MOST_NAMED
        grants = LedgerFinding("grants", False, f"missing: {named}{f' and {more} more' if more > 0 else ''}")
    else:
        grants = LedgerFinding("grants", True, f"{', '.join(_NEEDED)} on all tables")
    upgrades = (
        "owner of the tables: a new version changes them"
        if owns
        else ("not the owner of the tables: if a new version changes them, start it as the owner once")
    )
    return [grants, LedgerFinding("upgrades", True, upgrades)]


def _right_to_make(db: PostgresDatabase) -> LedgerFinding:
    schema, may = db.execute(
        "SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE')"
    ).fetchone()
    if schema is None:
        return LedgerFinding("grants", False, "search_path names no schema that is there")
    said = f"CREATE in the schema {schema}"
    return LedgerFinding(
        "grants", bool(may), said if may else f"missing: {said}, or tables made by their owner"
    )


def _replicas(db: PostgresDatabase) -> LedgerFinding:
    (alive,) = db.execute("SELECT count(*) FROM replicas WHERE until > now() AND targets <> '{}'").fetchone()
    return LedgerFinding("replicas", True, f"{alive} at work")
