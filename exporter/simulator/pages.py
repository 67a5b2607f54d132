"""Pages of the job list, as the API reference and the kept samples have them, with the server's quirks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from exporter.simulator.oddities import OddRow, odd
from exporter.simulator.query import Query, data_id, find
from exporter.simulator.responses import SimulatedResponse, utc_time
from exporter.simulator.settings import Order, Quirks
from exporter.simulator.specs import Specs
from exporter.simulator.table import Listing, RecentChanges, Table

_OMITTED = ("start_at", "end_at", "submitting_duration", "running_duration", "msg_code", "msg_error")
_BOM = b"\xef\xbb\xbf"
_TOTAL_FORMS: Mapping[str, Callable[[int], object]] = {
    "number": int,
    "string": str,
    "float": float,
    "null": lambda _: None,
}


class SimulatedRow(msgspec.Struct, kw_only=True):
    """One job as the list shows it. The fields are in the order of the documentation."""

    id: int
    job_type: str
    data_id: str
    status: str
    create_at: int
    update_at: int
    start_at: int | UnsetType | None = UNSET
    end_at: int | UnsetType | None = UNSET
    submitting_duration: int | UnsetType | None = UNSET
    running_duration: int | UnsetType | None = UNSET
    project_id: str
    resource_spec: str | UnsetType | None = UNSET
    msg_code: int | UnsetType | None = UNSET
    msg_error: str | UnsetType | None = UNSET
    workspace_id: str | UnsetType = UNSET
    extra_info: dict[str, Any] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class PageWriter:
    """
    Answer queries of the list from the table. Each response comes from a random replica.

    The random source draws the replica, the jumps of the clock and the jitter of update times.
    """

    _table: Table
    _specs: Specs
    _messages: Mapping[int, str]
    _changes: RecentChanges
    _order: Order
    _rng: Random

    def page(
        self, listing: Listing, query: Query, quirks: Quirks, now_ms: int
    ) -> tuple[SimulatedResponse, bool]:
        """Answer a query; the flag tells whether more jobs follow after this page."""
        limit = min(query.limit, quirks.clamp_limit or query.limit)
        repeated = min(query.offset, quirks.repeat_rows)
        number = None if query.job_id is None else query.job_id - quirks.id_offset
        # Rows from before the offset come again, in addition to those that were asked for.
        asked = replace(query, offset=query.offset - repeated, limit=limit + repeated, job_id=number)

        # A server may find the ids in an index, read the rows from a replica and count in another store. Each
        # of the three may have an older state.
        replica = self._rng.choice(quirks.replica_lags_seconds) if quirks.replica_lags_seconds else 0.0
        index = quirks.index_lag_seconds if query.statuses or query.job_types else 0.0
        ids_lag = replica + index
        rows_lag = replica + (0.0 if quirks.index_gives_new_rows else index)
        total_lag = replica + max(index, quirks.total_lag_seconds)
        hidden = (job_id - quirks.id_offset for job_id in quirks.hidden_ids)
        with self._changes.as_of(ids_lag), self._changes.hiding(hidden):
            found = find(self._table, listing, asked, self._order)
        with self._changes.as_of(rows_lag):
            listed = [job_id for job_id in found.ids if self._table.listed[job_id - 1]]
            rows: list[object] = []
            for job_id in listed:
                row = job_row(self._table, self._specs, self._messages, job_id, listing, quirks, now_ms)
                chosen = odd_kinds(job_id, row.status, quirks)
                # Only an odd row becomes a dict, because structs are encoded several times faster.
                rows.append(odd(row, chosen, self._rng) if chosen else row)
        total = found.total
        # Hidden jobs are in the total and on no page, so they are counted without `hiding`.
        if total_lag != ids_lag or quirks.hidden_ids:
            with self._changes.as_of(total_lag):
                total = find(self._table, listing, replace(asked, offset=0, limit=1), self._order).total
        return self.response(rows, total, query, quirks, now_ms), query.offset + len(rows) < total

    def response(
        self, rows: list[object], total: int, query: Query, quirks: Quirks, now_ms: int
    ) -> SimulatedResponse:
        """Write the response around these rows; `total` is the true number of matching jobs."""
        may_lack_list = not rows and (total == 0 or quirks.empty_list_anywhere)
        if may_lack_list and quirks.empty_list == "no-content":
            return SimulatedResponse(204, b"")
        page_info: dict[str, object] = {"offset": query.offset, "limit": query.limit}
        if not quirks.omit_total:
            shown = max(total + quirks.total_surplus, 0)
            if quirks.total_cap is not None:
                shown = min(shown, quirks.total_cap)
            if quirks.total_of_page:
                shown = len(rows)
            if quirks.total_fixed is not None:
                shown = quirks.total_fixed
            page_info["total"] = _TOTAL_FORMS[quirks.total_form](shown)
        payload: dict[str, object] = {"list": rows, "page_info": page_info}
        if may_lack_list and quirks.empty_list != "list":
            payload["list"] = None
            if quirks.empty_list == "missing":
                del payload["list"]
        current_time = quirks.clock_text
        if current_time is None:
            jump = self._rng.choice(quirks.clock_jumps_seconds) if quirks.clock_jumps_seconds else 0.0
            current_time = utc_time(now_ms + int((quirks.clock_ahead_seconds + jump) * 1000))
        body = msgspec.json.encode({"meta_info": {"current_time": current_time}, "payload": payload})
        if quirks.charset == "utf-8":
            return SimulatedResponse(200, _BOM + body if quirks.bom else body)
        text = body.decode(errors="replace")
        return SimulatedResponse(200, text.encode(quirks.charset, errors="replace"), charset=quirks.charset)


def job_row(
    table: Table,
    specs: Specs,
    messages: Mapping[int, str],
    job_id: int,
    listing: Listing,
    quirks: Quirks,
    now_ms: int,
) -> SimulatedRow:
    """Write one job's row from its cells; fields that do not apply are left out, unless a quirk adds them."""
    n = job_id - 1
    started_ms, ended_ms, code = table.started_ms[n], table.ended_ms[n], table.msg_code[n]
    row = SimulatedRow(
        id=job_id + quirks.id_offset,
        job_type=table.types[table.job_type[n]],
        data_id=data_id(job_id),
        status=table.statuses[table.status[n]],
        create_at=table.created_ms[n],
        update_at=table.updated_ms[n],
        project_id=listing.project_id,
        resource_spec=specs.name(job_id, table.job_type[n]) or UNSET,
    )
    # A duration appears together with the time at its end, or, with a quirk, while it still grows.
    if started_ms:
        row.start_at = started_ms
        row.submitting_duration = started_ms - table.submitted_ms[n]
    elif quirks.growing_durations:
        row.submitting_duration = now_ms - table.submitted_ms[n]
    if ended_ms:
        row.end_at = ended_ms
    if started_ms and ended_ms:
        row.running_duration = ended_ms - started_ms
    elif started_ms and quirks.growing_durations:
        row.running_duration = now_ms - started_ms
    if code:
        row.msg_code = code
        row.msg_error = messages.get(code, f"The job failed with code {code}.")
    _add_quirks(row, listing, quirks)
    return row


def _add_quirks(row: SimulatedRow, listing: Listing, quirks: Quirks) -> None:
    if not quirks.omit_workspace_id:
        row.workspace_id = listing.workspace_id
    if quirks.null_absent:
        for name in _OMITTED:
            if getattr(row, name) is UNSET:
                setattr(row, name, None)
    if quirks.extra_fields:
        row.extra_info = {"priority": 5, "tags": ["simulated"]}
    if quirks.row_padding_bytes:
        row.extra_info = {"log": "x" * quirks.row_padding_bytes}


def odd_kinds(job_id: int, status: str, quirks: Quirks) -> tuple[OddRow, ...]:
    """Return the oddities of a job's row while the job is listed in this status."""
    return tuple(one for one in quirks.odd_rows if one.selects(job_id, job_id + quirks.id_offset, status))
