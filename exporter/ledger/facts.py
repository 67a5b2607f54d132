"""What there is to tell of a ledger without asking it: what it is, where, how large, in which schema."""

from __future__ import annotations

from pathlib import Path

from exporter.config import LedgerUrl
from exporter.ledger.schema import VERSION
from exporter.model import LedgerFacts


def ledger_facts(url: LedgerUrl) -> LedgerFacts:
    """Tell of an open ledger. Waits for the disk its file is on."""
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
