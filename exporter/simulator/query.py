"""
Parse the query of the job list as the server does, with its quirks, and find the matching jobs.

Source: the API reference's page on the list of internal jobs, table 2; limits as on similar pages.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exporter.simulator.settings import DEFAULT_WORKSPACE, Order, Quirks
from exporter.simulator.table import Ids, Listing, Names, Table

MAX_LIMIT = 200
DEFAULT_LIMIT = 10
MAX_VALUES = 20
JOBS_PER_DATA_ID = 8

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DATA_ID = re.compile(r"DPK([0-9]{7,15})", re.ASCII)

Pairs = Sequence[tuple[str, str]]


class BadParameterError(Exception):
    """A query parameter that the server refuses with 400; the answer has its name and value."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(f"{name}:{value}")
        self.name = name
        self.value = value


@dataclass(frozen=True, slots=True)
class Query:
    """
    The parameters of one request for the list.

    Shape: an empty tuple or None means no filter. Units: jobs match if they were created at `start_ms` or
    later and updated at `end_ms` or earlier.
    """

    workspace_id: str = DEFAULT_WORKSPACE
    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    job_id: int | None = None
    data_id: str | None = None
    offset: int = 0
    limit: int = DEFAULT_LIMIT


class Window(NamedTuple):
    """The ids from `low` (inclusive) to `high` (exclusive)."""

    low: int
    high: int


class Found(NamedTuple):
    """The ids of one page, in its order, and the number of all matching jobs."""

    ids: list[int]
    total: int


def data_id(job_id: int) -> str:
    """Return the id of the data package that a job processes. Eight consecutive jobs share one."""
    return f"DPK{(job_id - 1) // JOBS_PER_DATA_ID + 1:07d}"


def parse(pairs: Pairs, table: Table, quirks: Quirks) -> Query:
    """Parse the query. Unknown parameters are ignored, and so is `sort`. Raises: BadParameterError."""
    kept = [(name, value) for name, value in pairs if name not in quirks.ignore_filters]
    limit = _integer(kept, "limit", 1, quirks.max_limit or MAX_LIMIT)
    return Query(
        workspace_id=_last(kept, "workspace_id") or DEFAULT_WORKSPACE,
        job_types=_values(kept, "job_types", table.types, quirks),
        statuses=_values(kept, "statuses", table.statuses, quirks),
        start_ms=_integer(kept, "start_time"),
        end_ms=_integer(kept, "end_time"),
        job_id=_integer(kept, "id"),
        data_id=_last(kept, "data_id"),
        offset=_integer(kept, "offset") or 0,
        limit=DEFAULT_LIMIT if limit is None else limit,
    )


def find(table: Table, listing: Listing, query: Query, order: Order) -> Found:
    """
    Find one page of the matching jobs.

    A page usually costs some bisections. Only two cases read all matching jobs: the order by update time, and
    an `end_ms` before the latest update.
    """
    window = _window(table, query)
    numbers = [table.types.number(name) for name in query.job_types]
    arrays = listing.having(numbers, [table.statuses.number(name) for name in query.statuses])
    updated_ms, end_ms = table.updated_ms, query.end_ms
    if end_ms is not None and end_ms < table.last_update_ms:
        matching = newest(arrays, window, 0, sum(map(len, arrays)))
        arrays = [array("q", sorted(x for x in matching if updated_ms[x - 1] <= end_ms))]
    total = count(arrays, window)
    # Ids ascend with creation, so both orders by creation are orders of the ids.
    if order == "created-desc":
        ids = newest(arrays, window, query.offset, query.limit)
    elif order == "created-asc":
        ids = oldest(arrays, window, query.offset, query.limit)
    else:
        matching = newest(arrays, window, 0, sum(map(len, arrays)))
        matching.sort(key=lambda x: (updated_ms[x - 1], x), reverse=True)
        ids = matching[query.offset : query.offset + query.limit]
    return Found(ids, total)


def _window(table: Table, query: Query) -> Window:
    """Turn the filters by time, id and data into bounds of the id, since ids ascend with creation."""
    low, high = 1, len(table.status) + 1
    if query.start_ms is not None:
        low = table.first_id_since(query.start_ms)
    if query.end_ms is not None:
        high = table.first_id_since(query.end_ms + 1)
    if query.job_id is not None:
        low, high = max(low, query.job_id), min(high, query.job_id + 1)
    if query.data_id is not None:
        match = _DATA_ID.fullmatch(query.data_id)
        last = int(match[1]) * JOBS_PER_DATA_ID if match else 0
        low, high = max(low, last - JOBS_PER_DATA_ID + 1), min(high, last + 1)
    return Window(low, high)


def count(arrays: Iterable[Ids], window: Window) -> int:
    if window.high <= window.low:
        return 0
    return sum(bisect_left(ids, window.high) - bisect_left(ids, window.low) for ids in arrays)


def newest(arrays: Sequence[Ids], window: Window, offset: int, limit: int) -> list[int]:
    """Return up to `limit` ids within the window, descending, after the `offset` highest."""
    # Bisect for the lowest `top` such that at most `offset` ids are at or above it. This takes log2(ids)
    # counts, however large the offset is.
    low, top = window.low, max(window.high, window.low)
    while low < top:
        middle = (low + top) // 2
        if count(arrays, Window(middle, window.high)) <= offset:
            top = middle
        else:
            low = middle + 1
    ids: list[int] = []
    for one in arrays:
        end = bisect_left(one, top)
        # No array can have more than `limit` ids on the page.
        ids.extend(one[max(bisect_left(one, window.low), end - limit) : end])
    ids.sort(reverse=True)
    return ids[:limit]


def oldest(arrays: Sequence[Ids], window: Window, offset: int, limit: int) -> list[int]:
    """Return up to `limit` ids within the window, ascending, after the `offset` lowest."""
    before_end = count(arrays, window) - offset - limit
    page = newest(arrays, window, max(before_end, 0), max(limit + min(before_end, 0), 0))
    return page[::-1]


def _last(pairs: Pairs, wanted: str) -> str | None:
    return next((value for name, value in reversed(pairs) if name == wanted), None)


def _integer(pairs: Pairs, name: str, minimum: int = 0, maximum: int | None = None) -> int | None:
    text = _last(pairs, name)
    if text is None:
        return None
    if not _INTEGER.fullmatch(text) or int(text) < minimum or (maximum is not None and int(text) > maximum):
        raise BadParameterError(name, text)
    return int(text)


def _values(pairs: Pairs, wanted: str, known: Names, quirks: Quirks) -> tuple[str, ...]:
    values = [value for name, value in pairs if name == wanted]
    if quirks.comma_arrays:
        # A server that splits at commas reads only the first of repeated keys.
        values = [part for value in values[:1] for part in value.split(",")]
    if quirks.first_value_only:
        values = values[:1]
    if len(values) > MAX_VALUES:
        raise BadParameterError(wanted, f"{len(values)} values")
    for value in values:
        if value not in known:
            raise BadParameterError(wanted, value)
    return tuple(values)
