"""From the configured URL to an open ledger, and to what can be said of one without asking it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from exporter.config import LedgerSettings, LedgerUrl
from exporter.errors import LedgerError, StartError
from exporter.ledger.connection import FAILURES, connect_to_look, existing, reason
from exporter.ledger.database import Database
from exporter.ledger.known_runs import KnownRunsQuery, known_runs
from exporter.ledger.schema import VERSION
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import LedgerFacts
from exporter.sync.ledger import Ledger


@dataclass(frozen=True, slots=True)
class LedgerFinding:
    """
    What can be said of a ledger before it is used.

    Shape: `what` was looked at; where it does not work, `run` cannot use the ledger; `text` is one line.
    """

    what: str
    works: bool
    text: str


async def open_ledger(settings: LedgerSettings) -> Ledger:
    """Begin to open the ledger, making it where it is new; see Ledger.opened. Raises: StartError."""
    if settings.url.backend == "postgresql":
        ledger: Ledger = await _postgres("ledger", settings.url).PostgresLedger.open(settings)
        return ledger
    return await SqliteLedger.begin_to_open(settings.url.path)


async def open_ledger_to_read(settings: LedgerSettings) -> Ledger:
    """Open a ledger for looking at, while an exporter may be writing to it. Raises: StartError."""
    if settings.url.backend == "postgresql":
        ledger: Ledger = await _postgres("ledger", settings.url).PostgresLedger.open_to_read(settings)
        return ledger
    if settings.url.path is None:
        raise StartError(f"ledger {settings.url}: not a file, so another process cannot read it")
    return await SqliteLedger.open_to_read(settings.url.path)


def inspect_ledger(settings: LedgerSettings) -> list[LedgerFinding]:
    """Find out whether a PostgreSQL ledger can be used; nothing of a file, which only `run` may open."""
    if settings.url.backend == "sqlite":
        return []
    try:
        found: list[LedgerFinding] = _postgres("inspection", settings.url).inspect(settings)
    except StartError as exc:
        return [LedgerFinding("driver", False, str(exc))]
    return found


@contextmanager
def opened_for_runs(settings: LedgerSettings) -> Iterator[KnownRunsQuery]:
    """
    Open the ledger to ask it for single runs, while an exporter may be writing to it.

    Raises: StartError (it cannot be opened); LedgerError, also while the runs are read (damage, lost).
    """
    if settings.url.backend == "postgresql":
        runs = _postgres("runs", settings.url)
        with runs.opened_for_runs(settings) as query:
            yield query
        return
    with _opened_file(settings) as db:
        yield partial(known_runs, db)


@contextmanager
def opened_to_look(settings: LedgerSettings) -> Iterator[Database]:
    """
    Open the ledger to ask it anything, while an exporter may be writing to it; it cannot be written to.

    Raises: StartError (it cannot be opened); LedgerError, also while it is read (damage, lost).
    """
    if settings.url.backend == "postgresql":
        runs = _postgres("runs", settings.url)
        with runs.opened_to_look(settings) as postgres:
            yield postgres
        return
    with _opened_file(settings) as db:
        # One snapshot for all questions.
        db.execute("BEGIN")
        yield db


@contextmanager
def _opened_file(settings: LedgerSettings) -> Iterator[sqlite3.Connection]:
    path = settings.url.path
    if path is None:
        raise StartError(f"ledger {settings.url}: not a file, so another process cannot read it")
    path = existing(path)
    try:
        db = connect_to_look(path)
    except FAILURES as exc:
        raise StartError(f"ledger {path}: {reason(exc)}") from exc
    with closing(db):
        try:
            yield db
        # Beside what SQLite says: a value that another program has changed.
        except (*FAILURES, OverflowError, msgspec.MsgspecError) as exc:
            raise LedgerError(f"ledger {path}: {reason(exc)}") from exc


def _postgres(module: str, url: LedgerUrl) -> Any:
    """Import what belongs to PostgreSQL: its driver is an extra, and only those who need it import it."""
    try:
        return import_module(f"exporter.ledger.postgres.{module}")
    except ImportError as exc:
        raise StartError(f"ledger {url}: the driver psycopg cannot be loaded: {exc}") from exc


def ledger_facts(url: LedgerUrl) -> LedgerFacts:
    """Say what an open ledger is, where, how large and in which schema. Waits for the disk its file is on."""
    if url.backend == "postgresql":
        return LedgerFacts("postgresql", url.display, _postgres("schema", url).VERSION, None)
    if url.path is None:
        return LedgerFacts("memory", "", VERSION, None)
    return LedgerFacts("sqlite", str(url.path.absolute()), VERSION, _size_bytes(url.path))


def _size_bytes(path: Path) -> int | None:
    """Add up the file and its write-ahead log; None where it is gone."""
    log = path.with_name(path.name + "-wal")
    try:
        return path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    except OSError:
        return None
