"""
Pages of the list as the server writes them, quirks included.

Source: the API reference's page on the list of internal jobs, and the samples this project keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from exporter.simulator.answers import Answer, utc_time
from exporter.simulator.listing import Listing
from exporter.simulator.oddities import odd
from exporter.simulator.profiles import all_profiles
from exporter.simulator.query import Query, data_id
from exporter.simulator.quirks import OddRow, Quirks
from exporter.simulator.table import Table

_SPECS = {profile.job_type: profile.resource_spec for profile in all_profiles()}
_OMITTED = ("start_at", "end_at", "submitting_duration", "running_duration", "msg_code", "msg_error")
_BOM = b"\xef\xbb\xbf"
_TOTAL_FORMS: Mapping[str, Callable[[int], object]] = {
    "number": int,
    "string": str,
    "float": float,
    "null": lambda _: None,
}


class Row(msgspec.Struct, kw_only=True):
    """One job as the list shows it, field by field in the documentation's order."""

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
    resource_spec: str
    msg_code: int | UnsetType | None = UNSET
    msg_error: str | UnsetType | None = UNSET
    workspace_id: str | UnsetType = UNSET
    extra_info: dict[str, Any] | UnsetType = UNSET


class Scribe:
    """Write what the table holds in the API's words; the random source makes clocks and updates jump."""

    def __init__(self, table: Table, messages: Mapping[int, str], rng: Random) -> None:
        self._table = table
        self._messages = messages
        self._rng = rng

    def rows(self, job_ids: list[int], listing: Listing, quirks: Quirks, now_ms: int) -> list[object]:
        """Write these jobs' rows, the odd ones among them odd."""
        return [self._odd_row(job_id, listing, quirks, now_ms) for job_id in job_ids]

    def page(self, rows: list[object], total: int, query: Query, quirks: Quirks, now_ms: int) -> Answer:
        """Write the answer around these rows; `total` is how many jobs match in truth."""
        if not rows and quirks.empty_list == "no-content" and _may_lack_list(total, quirks):
            return Answer(204, b"")
        page_info: dict[str, object] = {"offset": query.offset, "limit": query.limit}
        if not quirks.omit_total:
            page_info["total"] = told_total(total, len(rows), quirks)
        payload: dict[str, object] = {"list": rows, "page_info": page_info}
        if not rows and quirks.empty_list != "list" and _may_lack_list(total, quirks):
            payload["list"] = None
            if quirks.empty_list == "missing":
                del payload["list"]
        body = {"meta_info": {"current_time": self._time(quirks, now_ms)}, "payload": payload}
        return _in_charset(msgspec.json.encode(body), quirks)

    def _time(self, quirks: Quirks, now_ms: int) -> str:
        if quirks.clock_text is not None:
            return quirks.clock_text
        jump = self._rng.choice(quirks.clock_jumps_seconds) if quirks.clock_jumps_seconds else 0.0
        return utc_time(now_ms + int((quirks.clock_ahead_seconds + jump) * 1000))

    def _odd_row(self, job_id: int, listing: Listing, quirks: Quirks, now_ms: int) -> object:
        row = self.row(job_id, listing, quirks, now_ms)
        chosen = odd_kinds(job_id, row.status, quirks) if quirks.odd_rows else ()
        return odd(row, chosen, self._rng) if chosen else row

    def row(self, job_id: int, listing: Listing, quirks: Quirks, now_ms: int) -> Row:
        table, n = self._table, job_id - 1
        row = Row(
            id=job_id + quirks.id_offset,
            job_type=table.types[table.job_type[n]],
            data_id=data_id(job_id),
            status=table.statuses[table.status[n]],
            create_at=table.created_ms[n],
            update_at=table.updated_ms[n],
            project_id=listing.project_id,
            resource_spec=_SPECS.get(table.types[table.job_type[n]], "1Core_4GiB"),
        )
        self._add_times(row, n)
        self._add_failure(row, n)
        if not quirks.omit_workspace_id:
            row.workspace_id = listing.workspace_id
        if quirks.growing_durations:
            self._let_durations_grow(row, n, now_ms)
        if quirks.null_absent:
            _null_absent(row)
        if quirks.extra_fields:
            row.extra_info = {"priority": 5, "tags": ["simulated"]}
        if quirks.row_padding_bytes:
            row.extra_info = {"log": "x" * quirks.row_padding_bytes}
        return row

    def _add_times(self, row: Row, n: int) -> None:
        """Give what applies: the durations with the time that completes them."""
        started_ms, ended_ms = self._table.started_ms[n], self._table.ended_ms[n]
        if started_ms:
            row.start_at = started_ms
            row.submitting_duration = started_ms - self._table.submitted_ms[n]
        if ended_ms:
            row.end_at = ended_ms
        if started_ms and ended_ms:
            row.running_duration = ended_ms - started_ms

    def _add_failure(self, row: Row, n: int) -> None:
        code = self._table.msg_code[n]
        if code:
            row.msg_code = code
            row.msg_error = self._messages.get(code, f"The job failed with code {code}.")

    def _let_durations_grow(self, row: Row, n: int, now_ms: int) -> None:
        """Give the durations while they still run, as a server may."""
        started_ms = self._table.started_ms[n]
        if not started_ms:
            row.submitting_duration = now_ms - self._table.submitted_ms[n]
        elif row.end_at is UNSET:
            row.running_duration = now_ms - started_ms


def _null_absent(row: Row) -> None:
    for name in _OMITTED:
        if getattr(row, name) is UNSET:
            setattr(row, name, None)


def odd_kinds(job_id: int, status: str, quirks: Quirks) -> tuple[OddRow, ...]:
    """Return what is odd about the row of a job that is listed in this status."""
    return tuple(one for one in quirks.odd_rows if one.selects(job_id, job_id + quirks.id_offset, status))


def told_total(true: int, rows: int, quirks: Quirks) -> object:
    """Return what the server says of `true` matching jobs, `rows` of which stand on the page."""
    total = max(true + quirks.total_surplus, 0)
    if quirks.total_cap is not None:
        total = min(total, quirks.total_cap)
    if quirks.total_of_page:
        total = rows
    if quirks.total_fixed is not None:
        total = quirks.total_fixed
    return _TOTAL_FORMS[quirks.total_form](total)


def _may_lack_list(total: int, quirks: Quirks) -> bool:
    return total == 0 or quirks.empty_list_anywhere


def _in_charset(body: bytes, quirks: Quirks) -> Answer:
    """Write a body, UTF-8 so far, as the server does, and announce the charset where it is another one."""
    if quirks.charset != "utf-8":
        text = body.decode(errors="replace")
        return Answer(200, text.encode(quirks.charset, errors="replace"), charset=quirks.charset)
    return Answer(200, _BOM + body if quirks.bom else body)
