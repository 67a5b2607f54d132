"""
The job list as the API speaks it: the request to send, the page that came back.

Source: Huawei Cloud Octopus API reference, "querying the list of internal jobs", read 2025-06-18.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from exporter.errors import ContractError
from exporter.model import JOB_TYPES, STATUSES, Job, Target
from exporter.octopus.error_responses import contract_error, error_of, unavailable_error
from exporter.octopus.messages import Request, Response, split_endpoint
from exporter.octopus.rows import (
    DOCUMENTED_WORDS,
    EARLIEST_MS,
    LATEST_MS,
    MAX_ID,
    SetApartRow,
    label,
    latest_ms,
    message,
    read_row,
    whole_number,
    word,
)
from exporter.octopus.tolerant_json import read_json

__all__ = ["ListQuery", "Page", "SetApartRow", "clock_skew", "decode_page", "list_request", "parse_time_ms"]

MAX_ARRAY_VALUES = 20

# What the API takes as a creation time.
# Source: API reference, table 2, `start_time`, read 2026-04.
_EARLIEST_START_MS = 1_000_000_000_000
_LATEST_START_MS = 2_000_000_000_000
# In years 1 to 9999, which is what calendars hold.
_FIRST_YEAR_MS = -62_135_596_800_000
_LAST_YEAR_MS = 253_402_300_799_999
_MAX_COUNT = 2**63 - 1
# An answer may be millions of nulls long; no poll that has so many odd rows succeeds.
_MOST_SET_APART = 1000

# Narrower than the API's own types: what does not fit is read by `rows`, which must agree on what does.
_Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
_Time = Annotated[int, msgspec.Meta(ge=EARLIEST_MS, le=LATEST_MS)]
_Duration = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)]
_Code = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


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
    id: _Id
    job_type: str
    status: str
    create_at: _Time
    update_at: _Time | None = None
    start_at: _Time | None = None
    end_at: _Time | None = None
    submitting_duration: _Duration | None = None
    running_duration: _Duration | None = None
    msg_code: _Code | str | None = None
    msg_error: str | None = None
    workspace_id: int | str | None = None
    data_id: _Code | str | None = None
    resource_spec: str | None = None


class _DocumentedRow(_Row, gc=False):
    # The decoder gives its own copy of these words, which costs less than a new text for every row.
    job_type: Literal[JOB_TYPES]  # type: ignore[valid-type] # mypy wants the words themselves here
    status: Literal[STATUSES]  # type: ignore[valid-type] # likewise


_AnyRow = TypeVar("_AnyRow", bound=_Row)


class _Payload(msgspec.Struct, Generic[_AnyRow], gc=False):
    rows: list[_AnyRow] | None = msgspec.field(default=None, name="list")
    # Whatever is wrong with these two only costs what they say.
    page_info: Any = None


class _Answer(msgspec.Struct, Generic[_AnyRow], gc=False):
    payload: _Payload[_AnyRow]
    meta_info: Any = None


# The first takes documented types and statuses only, the second every one.
_decoders: tuple[msgspec.json.Decoder[_Answer[Any]], ...] = (
    msgspec.json.Decoder(_Answer[_DocumentedRow]),
    msgspec.json.Decoder(_Answer[_Row]),
)


def list_request(target: Target, query: ListQuery) -> Request:
    """
    Ask for one page of a target's jobs.

    Shape: arrays as repeated keys; workspace_id only where one is configured; start_time within what the API
    takes.
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
            *_optional("start_time", _within_bounds(query.start_time_ms)),
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


def _within_bounds(start_time_ms: int | None) -> int | None:
    """Keep a creation time within what the API takes: it refuses others, of a long lookback for example."""
    return None if start_time_ms is None else min(max(start_time_ms, _EARLIEST_START_MS), _LATEST_START_MS)


def decode_page(
    response: Response, request: Request, terminal_statuses: frozenset[str] = frozenset()
) -> Page:
    """
    Read one page of the job list.

    A documented answer is decoded strictly, which is fast; only where that fails it is read again tolerantly,
    row by row. A wrong answer is never read as "no jobs".
    Shape: body {"payload": {"list": [job, ...], "page_info": {...}}, "meta_info": {...}}; `terminal_statuses`
    are undocumented statuses that end a run.
    Raises: what `error_of` makes of another status than 200; ApiUnavailable (not one whole JSON document);
    ContractError (a document of another shape, or two rows or more of which none can be read).
    """
    if response.status != 200:
        raise error_of(response, request)
    read = _read_strictly(response.body, terminal_statuses)
    if read is None:
        read = _read_tolerantly(response, request, terminal_statuses)
    info = read.page_info if isinstance(read.page_info, dict) else {}
    total = _count(info.get("total"))
    if read.jobs is None and total != 0:
        raise _not_a_list("payload.list is missing, and page_info.total is not 0", response, request)
    if len(read.set_apart) > 1 and not read.jobs:
        none_of = f"none of its {len(read.set_apart)} rows can be read"
        raise _unreadable(none_of, read.set_apart, response, request)
    return Page(
        jobs=read.jobs or (),
        total=total,
        offset=_count(info.get("offset")),
        limit=_count(info.get("limit")),
        server_time_ms=_server_time_ms(read.meta_info),
        set_apart=read.set_apart,
    )


class _Read(msgspec.Struct, frozen=True, gc=False):
    """What an answer holds; `jobs` is None where it has no list, the last two are any JSON value."""

    jobs: tuple[Job, ...] | None
    set_apart: tuple[SetApartRow, ...]
    page_info: object
    meta_info: object


def _read_strictly(body: bytes, terminal_statuses: frozenset[str]) -> _Read | None:
    """Read an answer as it is documented, new types and statuses included; None where it is another."""
    for decoder in _decoders:
        try:
            answer = decoder.decode(body)
            rows = answer.payload.rows
            jobs = None if rows is None else _jobs(rows, terminal_statuses)
        except msgspec.ValidationError:
            continue
        # A ValueError is a word that the decoder's types let pass; UnicodeDecodeError is one too.
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        return _Read(jobs, (), answer.payload.page_info, answer.meta_info)
    return None


def _jobs(rows: list[_Row], terminal_statuses: frozenset[str]) -> tuple[Job, ...]:
    """Raises: ValueError (a job type or a status without anything to read)."""
    # Positional, and without a call for a row as documented: 200 of these make up most of the cost of a page.
    jobs = [
        Job(
            row.id,
            row.job_type if row.job_type in DOCUMENTED_WORDS else word(row.job_type),
            row.status if row.status in DOCUMENTED_WORDS else word(row.status),
            row.create_at,
            latest_ms(row.create_at, row.start_at, row.end_at) if row.update_at is None else row.update_at,
            row.start_at,
            row.end_at,
            row.submitting_duration,
            row.running_duration,
            "" if (code := row.msg_code) is None else label(code) if isinstance(code, str) else str(code),
            "" if row.msg_error is None else message(row.msg_error),
            None if row.workspace_id is None else str(row.workspace_id) or None,
            False,
            "" if (data := row.data_id) is None else label(data) if isinstance(data, str) else str(data),
            "" if row.resource_spec is None else label(row.resource_spec),
        )
        for row in rows
    ]
    if terminal_statuses:
        named = msgspec.structs.replace
        jobs = [named(job, named_terminal=True) if job.status in terminal_statuses else job for job in jobs]
    return tuple(jobs)


def _read_tolerantly(response: Response, request: Request, terminal_statuses: frozenset[str]) -> _Read:
    """Raises: ApiUnavailable (not one whole JSON document); ContractError (another shape)."""
    try:
        answer = read_json(response.body, response.headers.get("content-type", ""))
    except ValueError as exc:
        raise unavailable_error(f"the answer is not a whole JSON document: {exc}", response, request) from exc
    except RecursionError as exc:
        raise _not_a_list("it is nested too deep", response, request) from exc
    if not isinstance(answer, dict) or not isinstance(payload := answer.get("payload"), dict):
        raise _not_a_list("it has no object payload", response, request)
    rows = payload.get("list")
    if not isinstance(rows, list | None):
        raise _not_a_list("payload.list is not an array", response, request)
    jobs: list[Job] = []
    set_apart: list[SetApartRow] = []
    for index, row in enumerate(rows or ()):
        worth = read_row(row, index, terminal_statuses)
        if isinstance(worth, Job):
            jobs.append(worth)
        elif len(set_apart) < _MOST_SET_APART:
            set_apart.append(worth)
        else:
            raise _unreadable(
                f"more than {_MOST_SET_APART} rows cannot be read", set_apart, response, request
            )
    return _Read(
        None if rows is None else tuple(jobs),
        tuple(set_apart),
        payload.get("page_info"),
        answer.get("meta_info"),
    )


def _unreadable(
    what: str, set_apart: Sequence[SetApartRow], response: Response, request: Request
) -> ContractError:
    """Refuse an answer for its rows; the example is one of the field that most of them fail at."""
    ((worst, _),) = Counter(_field(row) for row in set_apart).most_common(1)
    example = next(row for row in set_apart if _field(row) == worst)
    return _not_a_list(f"{what}: payload.list[{example.index}].{example.problem}", response, request)


def _field(row: SetApartRow) -> str:
    return row.problem.partition(":")[0]


def _not_a_list(why: str, response: Response, request: Request) -> ContractError:
    return contract_error(f"the answer is not a job list: {why}", response, request)


def _count(value: object) -> int | None:
    """Read a number of rows; None where it is none."""
    number = whole_number(value)
    return number if number is not None and 0 <= number <= _MAX_COUNT else None


def _server_time_ms(meta_info: object) -> int | None:
    if not isinstance(meta_info, dict):
        return None
    return parse_time_ms(meta_info.get("current_time"))


def parse_time_ms(value: object) -> int | None:
    """
    Read a time like 2022-01-01T08:08:29Z, UTC where it names no zone.

    Never raises: None where it is no time, or one outside the years 1 to 9999 of UTC.
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        time_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return time_ms if _FIRST_YEAR_MS <= time_ms <= _LAST_YEAR_MS else None


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
