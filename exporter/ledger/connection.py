"""
From a path to a connection on a ledger that can be used: its file, its version, its tables, its values.

A file is looked at and checked before anything is written to it, and a migration is one transaction with the
look at the values: a ledger that is refused is left as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from exporter.errors import StartError, one_line
from exporter.ledger.database import Damaged
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS, VERSION
from exporter.ledger.staging import STAGING
from exporter.ledger.values import first_unreadable


class Unusable(Exception):
    """The file is not a ledger, or this version cannot use it."""


# Python's sqlite3 says UnicodeDecodeError where SQLite's own message has damaged text in it.
FAILURES = (sqlite3.Error, UnicodeDecodeError, Unusable, Damaged)
_BUSY_SECONDS = 2.0
_LOG_PAGES = 4_000  # 16 MB


def look_at(path: Path) -> None:
    """Make sure that a file is a ledger for this version, by its head and its tables. Raises: StartError."""
    with _refusing(path), closing(_read_only(path)) as db:
        _check_tables(db, _identify(db))


def check(path: Path) -> None:
    """Read the whole file and make sure that it is sound; that may take long. Raises: StartError."""
    with _refusing(path), closing(_read_only(path)) as db:
        _check_pages(db)


def connect(path: Path | None) -> sqlite3.Connection:
    """Open the ledger at `path`, making or migrating it; None keeps it in memory. Raises: StartError."""
    with _refusing(path):
        db = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None)
        return _or_closed(db, _prepare)


@contextmanager
def _refusing(path: Path | None) -> Iterator[None]:
    try:
        yield
    except FAILURES as exc:
        raise StartError(f"ledger {path or 'in memory'}: {reason(exc)}") from exc


def existing(path: Path) -> Path:
    """Give the absolute path of a ledger that can be opened. Raises: StartError; SQLite would not say why."""
    path = path.absolute()
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise StartError(
            f"ledger {path}: there is none yet, `octopus-exporter run` makes it (a relative ledger.url begins"
            " at the working directory: start this command in the same one)"
        ) from None
    except OSError as exc:
        raise StartError(f"ledger {path}: {exc.strerror or exc}") from exc
    return path


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger of this version for looking at. Raises: StartError."""
    path = existing(path)
    with _refusing(path):
        return _or_closed(_read_only(path), _check_all_but_pages)


def connect_to_look(path: Path) -> sqlite3.Connection:
    """
    Open a ledger that may be in use, for looking at single runs; any thread may use it, one at a time.

    Shape: damage in the text of one row does not hide the other rows.
    Raises: what is in FAILURES.
    """
    db = sqlite3.connect(
        _uri(path), uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    db.text_factory = tolerant_text
    return _or_closed(db, _identify_exactly)


def tolerant_text(text: bytes) -> str:
    """Read a text that may be damaged: a connection's `text_factory`."""
    return text.decode("utf-8", "replace")


def problem_of(path: Path) -> str | None:
    """Say what makes a file unusable, seen through a new connection; None where nothing does."""
    try:
        with closing(_read_only(path)) as db:
            version = _identify(db)
            _check_pages(db)
            _check_tables(db, version)
    except FAILURES as exc:
        return reason(exc)
    return None


def reason(exc: Exception) -> str:
    """Say in one line why SQLite or a look at the file failed."""
    if isinstance(exc, UnicodeDecodeError):
        return "damaged: found text that is not UTF-8"
    code = getattr(exc, "sqlite_errorname", "")
    if code == "SQLITE_NOTADB":
        return "not an SQLite database"
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "locked by another process"
    text = one_line(str(exc))
    return f"damaged: {text}" if code.startswith("SQLITE_CORRUPT") else text


def _or_closed(db: sqlite3.Connection, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    try:
        prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(_uri(path), uri=True, timeout=_BUSY_SECONDS, isolation_level=None)


def _uri(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


def _check_pages(db: sqlite3.Connection) -> None:
    ((problem,),) = db.execute("PRAGMA quick_check(1)").fetchall()
    if problem != "ok":
        raise Unusable(f"damaged: {problem}")


def _check_all_but_pages(db: sqlite3.Connection) -> None:
    _identify_exactly(db)
    _check_tables(db, VERSION)
    _check_values(db)


def _identify_exactly(db: sqlite3.Connection) -> None:
    """Make sure that a ledger is of this version."""
    version = _identify(db)
    if version < VERSION:
        raise Unusable(f"written by an older version (schema {version}): `run` brings it up to date")


def _identify(db: sqlite3.Connection) -> int:
    """Give the version of a ledger's schema."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise Unusable("not a ledger of octopus-exporter")
    if version > VERSION:
        raise Unusable(f"written by a newer version (schema {version}; this one knows {VERSION})")
    if version < 1:
        raise Unusable(f"damaged: its schema has the number {version}")
    return int(version)


def _check_tables(db: sqlite3.Connection, version: int) -> None:
    """Hold the tables and indexes to what the migrations make; what else there is does no harm."""
    found = _described(db)
    for name, expected in _tables_of(version).items():
        if found.get(name) != expected:
            what = "is missing" if name not in found else "is another"
            raise Unusable(f"damaged: its {name} {what}, expected that of schema {version}")


@cache
def _tables_of(version: int) -> dict[str, object]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for statement in (statement for migration in MIGRATIONS[:version] for statement in migration):
            db.execute(statement)
        return _described(db)


def _described(db: sqlite3.Connection) -> dict[str, object]:
    """Give the tables and indexes by name, as SQLite understands them."""
    described: dict[str, object] = {}
    tables = db.execute(
        "SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    ).fetchall()
    for name, *kind in tables:
        columns = db.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall()
        described[f"table {name}"] = kind, columns
        for _, index, *traits in db.execute("SELECT * FROM pragma_index_list(?)", (name,)).fetchall():
            parts = db.execute("SELECT * FROM pragma_index_xinfo(?)", (index,)).fetchall()
            described[f"index {index}"] = name, traits, parts
    return described


def _check_values(db: sqlite3.Connection) -> None:
    problem = first_unreadable(db)
    if problem is not None:
        raise Unusable(f"damaged: {problem}")


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    # A first sync writes each page of the file about once: it goes there in few, long strides.
    db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    # A reader who takes long makes the log grow. It shrinks when the next one begins.
    db.execute(f"PRAGMA journal_size_limit = {_LOG_PAGES * 4096}")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("BEGIN EXCLUSIVE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for migration in MIGRATIONS[version:]:
        for statement in migration:
            db.execute(statement)
    _check_values(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    # Debian's SQLite overwrites deleted rows with zeros. For staged rows, which every poll deletes, that
    # would write each page twice more: the zeros to the file, and what they replace to its journal.
    db.execute("PRAGMA temp.secure_delete = OFF")
    db.execute("PRAGMA temp.journal_mode = MEMORY")
    # In KiB: what polls stage stays in memory up to some 20,000 rows.
    db.execute("PRAGMA temp.cache_size = -4000")
    db.execute(STAGING)
