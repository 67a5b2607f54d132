"""From the configured URL to an open ledger."""

from __future__ import annotations

from exporter.config import LedgerUrl
from exporter.errors import StartError
from exporter.ledger.sqlite import SqliteLedger
from exporter.sync.ledger import Ledger


async def open_ledger(url: LedgerUrl) -> Ledger:
    """Open the ledger, making it where it is new. Raises: StartError."""
    if url.backend != "sqlite":
        raise StartError(f"ledger {url}: PostgreSQL is not supported by this version, expected an sqlite URL")
    return await SqliteLedger.open(url.path)
