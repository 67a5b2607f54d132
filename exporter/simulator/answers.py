"""
The answers of the gateway, the service and IAM, as bytes.

Source: the samples and the table of errors in the description of the remote API this project keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from exporter.simulator.listing import Listing
from exporter.simulator.profiles import PROFILES
from exporter.simulator.query import Found, Query, data_id
from exporter.simulator.settings import Quirks
from exporter.simulator.table import Table

_SPECS = {profile.job_type: profile.resource_spec for profile in PROFILES}
_OMITTED = ("start_at", "end_at", "submitting_duration", "running_duration", "msg_code", "msg_error")


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What goes back.

    Shape: with `is_cut` the connection is closed within the body.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    is_cut: bool = False


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
    """Write pages of the list: what the table holds, in the API's words, quirks included."""

    def __init__(self, table: Table, messages: Mapping[int, str]) -> None:
        self._table = table
        self._messages = messages

    def page(self, listing: Listing, query: Query, found: Found, quirks: Quirks, now_ms: int) -> Answer:
        page_info = {"offset": query.offset, "limit": query.limit, "total": found.total}
        if quirks.omit_total:
            del page_info["total"]
        rows = [self.row(job_id, listing, quirks, now_ms) for job_id in found.ids]
        payload = {"list": rows, "page_info": page_info}
        return json_answer(200, {"meta_info": {"current_time": utc_time(now_ms)}, "payload": payload})

    def row(self, job_id: int, listing: Listing, quirks: Quirks, now_ms: int) -> Row:
        table, n = self._table, job_id - 1
        row = Row(
            id=job_id,
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


def utc_time(at_ms: int) -> str:
    """Write a time as the service does: to the second, UTC."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, msgspec.json.encode(body), headers=headers or {})


def gateway_error(
    status: int, code: str, message: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """Refuse as the API gateway does."""
    return json_answer(status, {"error_msg": message, "error_code": code, "request_id": request_id}, headers)


def service_error(status: int, code: str, message: str) -> Answer:
    """Refuse as the Octopus service does."""
    return json_answer(status, {"error_code": f"octopus.{code}", "error_msg": message})


def iam_error(status: int, title: str, message: str) -> Answer:
    """Refuse as IAM does."""
    return json_answer(status, {"error": {"code": status, "message": message, "title": title}})


def bad_parameter(name: str, value: str, now_ms: int) -> Answer:
    """Refuse a query parameter as the service does."""
    return json_answer(
        400,
        {
            "error_code": "000003",
            "error_name": "octopus_request_param_error",
            "error_msg": f"Request params [{name}:{value}] is invalid.",
            "error_suggestion": f"Please confirm that the request params [{name}:{value}] is correct.",
            "error_context": (
                f"Field error on field: [{name}], rejected value: [{value}]; Message: Value is not valid."
            ),
            "current_time": utc_time(now_ms),
        },
    )
