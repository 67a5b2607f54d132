"""From the configured URL to an open ledger, and to what can be said of one without asking it."""

from __future__ import annotations

from pathlib import Path

from exporter.config import LedgerUrl
from exporter.errors import StartError
from exporter.ledger.schema import VERSION
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import LedgerFacts
from exporter.sync.ledger import Ledger


async def open_ledger(url: LedgerUrl) -> Ledger:
    """Begin to open the ledger, making it where it is new; see Ledger.opened. Raises: StartError."""
    if url.backend != "sqlite":
        raise StartError(f"ledger {url}: PostgreSQL is not supported by this version, expected an sqlite URL")
    return await SqliteLedger.begin_to_open(url.path)


def ledger_facts(url: LedgerUrl) -> LedgerFacts:
    """Say what an open ledger is, where, how large and in which schema. Waits for the disk its file is on."""
    if url.backend == "postgresql":
        return LedgerFacts("postgresql", url.display, None, None)
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
