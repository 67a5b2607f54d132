"""
What a query finds, where replicas, the index and the total may each see an older state than the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from exporter.simulator.listing import Listing
from exporter.simulator.past import Past
from exporter.simulator.query import Query, find
from exporter.simulator.quirks import Quirks
from exporter.simulator.settings import Order
from exporter.simulator.table import Table

WriteRows = Callable[[list[int]], list[object]]


@dataclass(frozen=True, slots=True)
class Seen:
    """The rows of one page as written, and how many jobs match in all."""

    rows: list[object]
    total: int


@dataclass(frozen=True, slots=True)
class _Lags:
    """How many real seconds ago each part of the server looked."""

    ids: float
    rows: float
    total: float


class Views:
    """Answer queries from the table, by the quirks. Each answer comes from a replica drawn by chance."""

    def __init__(self, table: Table, past: Past, order: Order, rng: Random) -> None:
        self._table = table
        self._past = past
        self._order = order
        self._rng = rng

    def see(self, listing: Listing, query: Query, quirks: Quirks, write: WriteRows) -> Seen:
        """Find the page that is asked for, and have its rows written in the state they are shown in."""
        asked, lags = _bent(query, quirks), self._lags(query, quirks)
        with self._past.seen(lags.ids), self._past.without(_hidden(quirks)):
            found = find(self._table, listing, asked, self._order)
        with self._past.seen(lags.rows):
            rows = write([job_id for job_id in found.ids if self._table.listed[job_id - 1]])
        if lags.total == lags.ids and not quirks.hidden_ids:
            return Seen(rows, found.total)
        with self._past.seen(lags.total):
            return Seen(
                rows, find(self._table, listing, replace(asked, offset=0, limit=1), self._order).total
            )

    def _lags(self, query: Query, quirks: Quirks) -> _Lags:
        replica = self._rng.choice(quirks.replica_lags_seconds) if quirks.replica_lags_seconds else 0.0
        index = quirks.index_lag_seconds if query.statuses or query.job_types else 0.0
        return _Lags(
            ids=replica + index,
            rows=replica + (0.0 if quirks.index_gives_new_rows else index),
            total=replica + max(index, quirks.total_lag_seconds),
        )


def _bent(query: Query, quirks: Quirks) -> Query:
    """Clamp the limit, reach back for repeated rows, and turn the id asked for into a job's number."""
    limit = min(query.limit, quirks.clamp_limit or query.limit)
    repeated = min(query.offset, quirks.repeat_rows)
    number = None if query.job_id is None else query.job_id - quirks.id_offset
    return replace(query, offset=query.offset - repeated, limit=limit + repeated, job_id=number)


def _hidden(quirks: Quirks) -> tuple[int, ...]:
    return tuple(job_id - quirks.id_offset for job_id in quirks.hidden_ids)
