"""
The job list as the API speaks it: the request to send, the page that came back.

Source: Huawei Cloud Octopus API reference, "querying the list of internal jobs", read 2025-06-18.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from exporter.errors import ContractError
from exporter.model import Job, Target
from exporter.octopus.exchange import Request, Response, split_endpoint
from exporter.octopus.refusal import contract_error, error_of
from exporter.octopus.rows import SetApartRow

__all__ = ["ListQuery", "Page", "SetApartRow", "clock_skew", "decode_page", "list_request", "parse_time_ms"]

MAX_ARRAY_VALUES = 20

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
# Milliseconds that are a time, some two hundred thousand years from now at the most.
_Time = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_LONGEST_MS = 2**53
_Word = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What to list. Empty or None asks for all; `start_time_ms` is the earliest creation time."""

    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    start_time_ms: int | None = None
    job_id: int | None = None
    offset: int = 0
    limit: int = 200


@dataclass(frozen=True, slots=True)
class Page:
    """
    One page of the list.

    Shape: the answer's rows are `jobs` and `set_apart` together; `total`, `offset` and `limit` as reported,
    None where the API gave no usable number. Go by the rows that came, never by the limit that was asked for.
    """

    jobs: tuple[Job, ...]
    total: int | None = None
    offset: int | None = None
    limit: int | None = None
    server_time_ms: int | None = None
    set_apart: tuple[SetApartRow, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.jobs) + len(self.set_apart)


class _Row(msgspec.Struct, gc=False):
    id: _Count
    job_type: _Word
    status: _Word
    create_at: _Time
    update_at: _Time | None = None
    start_at: _Time | None = None
    end_at: _Time | None = None
    submitting_duration: int | None = None
    running_duration: int | None = None
    msg_code: int | str | None = None
    msg_error: str | None = None
    workspace_id: int | str | None = None


class _PageInfo(msgspec.Struct, gc=False):
    offset: _Count | None = None
    limit: _Count | None = None
    total: _Count | None = None


class _Payload(msgspec.Struct, gc=False):
    rows: list[_Row] = msgspec.field(name="list")
    page_info: _PageInfo | None = None


class _Answer(msgspec.Struct, gc=False):
    payload: _Payload
    # Only tells the time: whatever is wrong with it must not fail a poll.
    meta_info: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def list_request(target: Target, query: ListQuery) -> Request:
    """
    Ask for one page of a target's jobs.

    Shape: arrays as repeated keys; workspace_id only where one is configured.
    Raises: ValueError (more than MAX_ARRAY_VALUES values in an array).
    """
    origin, prefix = split_endpoint(target.endpoint)
    return Request(
        method="GET",
        origin=origin,
        path=f"{prefix}/v1.0/{target.project_id}/data/{target.path.strip('/')}",
        query=(
            *_array("job_types", query.job_types),
            *_array("statuses", query.statuses),
            *_optional("id", query.job_id),
            *_optional("start_time", query.start_time_ms),
            *_optional("workspace_id", target.workspace_id),
            ("offset", str(query.offset)),
            ("limit", str(query.limit)),
        ),
        headers={"Accept": "application/json"},
    )


def _array(name: str, values: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    if len(values) > MAX_ARRAY_VALUES:
        raise ValueError(f"{name}: {len(values)} values, the API takes at most {MAX_ARRAY_VALUES}")
    return ((name, value) for value in values)


def _optional(name: str, value: int | str | None) -> Iterable[tuple[str, str]]:
    return () if value is None else ((name, str(value)),)


def decode_page(
    response: Response, request: Request, terminal_statuses: frozenset[str] = frozenset()
) -> Page:
    """
    Read one page of the job list.

    Tolerant of nulls where a field is optional, of fields and values nobody knows, and of silence about
    total and time. Strict where a wrong answer would be counted: never reads one as "no jobs".
    Shape: body {"payload": {"list": [job, ...], "page_info": {...}}, "meta_info": {...}}; `terminal_statuses`
    are undocumented statuses that end a run.
    Raises: what `error_of` makes of another status than 200; ContractError, naming field and row.
    """
    if response.status != 200:
        raise error_of(response, request)
    try:
        answer = _decoder.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise _not_a_page(exc, response, request) from exc
    info = answer.payload.page_info or _PageInfo()
    return Page(
        jobs=tuple([_job(row, terminal_statuses) for row in answer.payload.rows]),
        total=info.total,
        offset=info.offset,
        limit=info.limit,
        server_time_ms=_server_time_ms(answer.meta_info),
    )


def _not_a_page(exc: Exception, response: Response, request: Request) -> ContractError:
    return contract_error(f"the answer is not a job list: {exc}", response, request)


def _job(row: _Row, terminal_statuses: frozenset[str]) -> Job:
    # Positional: 200 of these make up most of the cost of a page.
    return Job(
        row.id,
        row.job_type,
        row.status,
        row.create_at,
        _latest_ms(row) if row.update_at is None else row.update_at,
        row.start_at,
        row.end_at,
        _duration_ms(row.submitting_duration),
        _duration_ms(row.running_duration),
        "" if row.msg_code is None else str(row.msg_code),
        row.msg_error or "",
        None if row.workspace_id is None else str(row.workspace_id),
        row.status in terminal_statuses,
    )


def _latest_ms(row: _Row) -> int:
    """Stand in for an update time that did not come."""
    return max(row.create_at, row.start_at or 0, row.end_at or 0)


def _duration_ms(value: int | None) -> int | None:
    """Take an impossible duration for none: two clocks disagreed, or -1 says "does not apply"."""
    return value if value is not None and 0 <= value <= _LONGEST_MS else None


def _server_time_ms(meta_info: object) -> int | None:
    if not isinstance(meta_info, dict):
        return None
    return parse_time_ms(meta_info.get("current_time"))


def parse_time_ms(value: object) -> int | None:
    """Read a time like 2022-01-01T08:08:29Z, UTC where it names no zone; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def clock_skew(server_time_ms: int, sent_at: float, received_at: float) -> float:
    """
    Tell how far the server's clock is ahead of ours.

    The server names a whole second, at some moment of the exchange: while the two stretches overlap the
    clocks may agree, and the skew is 0; beyond, it is the distance of their middles.
    Units: seconds; `sent_at` and `received_at` Unix seconds by our clock.
    """
    server = server_time_ms / 1000
    if sent_at <= server + 1 and server <= received_at:
        return 0.0
    return (server + 0.5) - (sent_at + received_at) / 2
