"""
The job list as the API writes it: the request to send, and the page that a response contains.

Source: Huawei Cloud Octopus API reference, "querying the list of internal jobs", read 2025-06-18.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from exporter.errors import ApiUnavailable, ContractError
from exporter.masking import Secrets
from exporter.model import JOB_TYPES, STATUSES, Job, Target
from exporter.octopus.error_responses import error_of, response_error
from exporter.octopus.messages import Request, Response, split_endpoint
from exporter.octopus.tolerant import (
    DOCUMENTED_WORDS,
    EARLIEST_MS,
    LATEST_MS,
    MAX_ID,
    SetApartRow,
    clean_label,
    clean_message,
    latest_ms,
    read_json,
    read_row,
    read_word,
    whole_number,
)

MAX_ARRAY_VALUES = 20

# The creation times that the API accepts.
# Source: API reference, table 2, `start_time`, read 2026-04.
_EARLIEST_START_MS = 1_000_000_000_000
_LATEST_START_MS = 2_000_000_000_000
# Years 1 to 9999, the range of Python's datetime.
_FIRST_YEAR_MS = -62_135_596_800_000
_LAST_YEAR_MS = 253_402_300_799_999
_MAX_COUNT = 2**63 - 1
# A body of 32 MB could hold millions of nulls. No poll with so many unreadable rows succeeds anyway.
_MAX_SET_APART = 1000

# Stricter than the API's own types: `tolerant` reads what does not fit, and must agree on what does.
_Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
_Time = Annotated[int, msgspec.Meta(ge=EARLIEST_MS, le=LATEST_MS)]
_Duration = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)]
_Code = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The filters and the page of a list request; empty or None means no filter."""

    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    # The earliest creation time.
    start_time_ms: int | None = None
    job_id: int | None = None
    offset: int = 0
    limit: int = 200


@dataclass(frozen=True, slots=True)
class Page:
    """
    One page of the list.

    Shape: the rows of the response are `jobs` and `set_apart` together. `total`, `offset` and `limit` are as
    reported, None without a usable number. The server may return fewer rows than the requested limit.
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


class _JobRow(msgspec.Struct, gc=False):
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


class _DocumentedRow(_JobRow, gc=False):
    # For a Literal the decoder returns its own string, which costs less than a new one for every row.
    job_type: Literal[JOB_TYPES]  # type: ignore[valid-type] # mypy wants the words themselves
    status: Literal[STATUSES]  # type: ignore[valid-type] # likewise


_AnyRow = TypeVar("_AnyRow", bound=_JobRow)


class _Payload(msgspec.Struct, Generic[_AnyRow], gc=False):
    rows: list[_AnyRow] | None = msgspec.field(default=None, name="list")
    # Any, as meta_info below: a defect in them must not make the rows unreadable.
    page_info: Any = None


class _ListAnswer(msgspec.Struct, Generic[_AnyRow], gc=False):
    payload: _Payload[_AnyRow]
    meta_info: Any = None


# The first accepts documented types and statuses only and is faster; the second accepts all.
_decoders: tuple[msgspec.json.Decoder[_ListAnswer[Any]], ...] = (
    msgspec.json.Decoder(_ListAnswer[_DocumentedRow]),
    msgspec.json.Decoder(_ListAnswer[_JobRow]),
)


def list_request(target: Target, query: ListQuery) -> Request:
    """
    Build the request for one page of a target's jobs.

    Shape: arrays as repeated keys; workspace_id only if one is configured.
    Raises: ValueError (more than MAX_ARRAY_VALUES values in an array).
    """
    start_ms = query.start_time_ms
    if start_ms is not None:
        # The API refuses an earlier time, which a long lookback would give.
        start_ms = min(max(start_ms, _EARLIEST_START_MS), _LATEST_START_MS)
    arrays = {"job_types": query.job_types, "statuses": query.statuses}
    for name, values in arrays.items():
        if len(values) > MAX_ARRAY_VALUES:
            raise ValueError(f"{name}: {len(values)} values, the API takes at most {MAX_ARRAY_VALUES}")
    single = {"id": query.job_id, "start_time": start_ms, "workspace_id": target.workspace_id}
    origin, prefix = split_endpoint(target.endpoint)
    return Request(
        method="GET",
        origin=origin,
        path=f"{prefix}/v1.0/{target.project_id}/data/{target.path.strip('/')}",
        query=(
            *((name, value) for name, values in arrays.items() for value in values),
            *((name, str(value)) for name, value in single.items() if value is not None),
            ("offset", str(query.offset)),
            ("limit", str(query.limit)),
        ),
        headers={"Accept": "application/json"},
    )


# The jobs (None without a list), the rows set apart, and page_info and meta_info, which are any JSON value.
_Parsed = tuple[tuple[Job, ...] | None, tuple[SetApartRow, ...], object, object]


def decode_page(
    response: Response, request: Request, terminal_statuses: frozenset[str] = frozenset()
) -> Page:
    """
    Read one page of the job list.

    A documented response is decoded strictly, which is fast. Only if that fails it is read again tolerantly,
    row by row. A wrong response is never read as "no jobs".
    Shape: body {"payload": {"list": [job, ...], "page_info": {...}}, "meta_info": {...}}; `terminal_statuses`
    are undocumented statuses that end a run.
    Raises: the error of `error_of` for another status than 200; ApiUnavailable (not one complete JSON
    document); ContractError (a document of another shape, or several rows of which none can be read).
    """
    if response.status != 200:
        raise error_of(response, request)
    parsed = _parse_strictly(response.body, terminal_statuses)
    jobs, set_apart, info, meta = parsed or _parse_tolerantly(response, request, terminal_statuses)
    info = info if isinstance(info, dict) else {}
    total = _count(info.get("total"))
    # Without rows the API may leave out the list, but then its total is 0.
    if jobs is None and total != 0:
        raise _shape_error("payload.list is missing, and page_info.total is not 0", response, request)
    if len(set_apart) > 1 and not jobs:
        problem = f"none of its {len(set_apart)} rows can be read"
        raise _rows_error(problem, set_apart, response, request)
    return Page(
        jobs=jobs or (),
        total=total,
        offset=_count(info.get("offset")),
        limit=_count(info.get("limit")),
        server_time_ms=parse_time_ms(meta.get("current_time")) if isinstance(meta, dict) else None,
        set_apart=set_apart,
    )


def _parse_strictly(body: bytes, terminal_statuses: frozenset[str]) -> _Parsed | None:
    """Read a response as documented, new types and statuses included; None if it is not."""
    for decoder in _decoders:
        try:
            answer = decoder.decode(body)
            rows = answer.payload.rows
            jobs = None if rows is None else _to_jobs(rows, terminal_statuses)
        except msgspec.ValidationError:
            continue
        # ValueError: an empty job type or status, or invalid UTF-8 (UnicodeDecodeError).
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        return jobs, (), answer.payload.page_info, answer.meta_info
    return None


def _to_jobs(rows: list[_JobRow], terminal_statuses: frozenset[str]) -> tuple[Job, ...]:
    """Raises: ValueError (an empty job type or status)."""
    clean = clean_label
    # Positional arguments, and no call for a documented value: 200 of these are most of the cost of a page.
    jobs = [
        Job(
            row.id,
            row.job_type if row.job_type in DOCUMENTED_WORDS else read_word(row.job_type),
            row.status if row.status in DOCUMENTED_WORDS else read_word(row.status),
            row.create_at,
            latest_ms(row.create_at, row.start_at, row.end_at) if row.update_at is None else row.update_at,
            row.start_at,
            row.end_at,
            row.submitting_duration,
            row.running_duration,
            "" if (code := row.msg_code) is None else clean(code) if isinstance(code, str) else str(code),
            "" if row.msg_error is None else clean_message(row.msg_error),
            None if row.workspace_id is None else str(row.workspace_id) or None,
            False,
            "" if (data := row.data_id) is None else clean(data) if isinstance(data, str) else str(data),
            "" if row.resource_spec is None else clean(row.resource_spec),
        )
        for row in rows
    ]
    if terminal_statuses:
        named = msgspec.structs.replace
        jobs = [named(job, named_terminal=True) if job.status in terminal_statuses else job for job in jobs]
    return tuple(jobs)


def _parse_tolerantly(response: Response, request: Request, terminal_statuses: frozenset[str]) -> _Parsed:
    """Raises: ApiUnavailable (not one complete JSON document); ContractError (another shape)."""
    try:
        answer = read_json(response.body, response.headers.get("content-type", ""))
    except ValueError as exc:
        message = f"the answer is not a whole JSON document: {exc}"
        raise response_error(ApiUnavailable, message, response, request) from exc
    except RecursionError as exc:
        raise _shape_error("it is nested too deep", response, request) from exc
    if not isinstance(answer, dict) or not isinstance(payload := answer.get("payload"), dict):
        raise _shape_error("it has no object payload", response, request)
    rows = payload.get("list")
    if not isinstance(rows, list | None):
        raise _shape_error("payload.list is not an array", response, request)
    jobs: list[Job] = []
    set_apart: list[SetApartRow] = []
    for index, raw in enumerate(rows or ()):
        row = read_row(raw, index, terminal_statuses)
        if isinstance(row, Job):
            jobs.append(row)
        elif len(set_apart) < _MAX_SET_APART:
            set_apart.append(row)
        else:
            problem = f"more than {_MAX_SET_APART} rows cannot be read"
            raise _rows_error(problem, set_apart, response, request)
    found = None if rows is None else tuple(jobs)
    return found, tuple(set_apart), payload.get("page_info"), answer.get("meta_info")


def _shape_error(problem: str, response: Response, request: Request) -> ContractError:
    message = f"the answer is not a job list: {problem}"
    return response_error(ContractError, message, response, request)


def _rows_error(
    problem: str, set_apart: Sequence[SetApartRow], response: Response, request: Request
) -> ContractError:
    """Reject a response for its rows, with an example of the field at which most of them fail."""
    fields = [row.problem.partition(":")[0] for row in set_apart]
    ((worst, _),) = Counter(fields).most_common(1)
    example = set_apart[fields.index(worst)]
    return _shape_error(f"{problem}: payload.list[{example.index}].{example.problem}", response, request)


def _count(value: object) -> int | None:
    """Read a number of rows; None if it is not one."""
    number = whole_number(value)
    return number if number is not None and 0 <= number <= _MAX_COUNT else None


def masked_page(page: Page, secrets: Secrets) -> Page:
    """
    Mask the secrets in a page's texts, before any of them is stored.

    A page without secrets, failed jobs and undocumented words is returned unchanged, at little cost.
    """
    # One search over the details of all rows: every row has two, and a search for each of them would cost
    # more than decoding the page.
    specs = {*map(attrgetter("resource_spec"), page.jobs)}
    with_details = secrets.may_be_in({*map(attrgetter("data_id"), page.jobs), *specs})
    if not with_details:
        # They are labels: each keeps its name when a secret changes.
        secrets.keep_labels(specs)
    # Written out, since a call for each row would cost half of what it takes to decode the page.
    searched = [
        with_details
        or job.msg_error != ""
        or job.msg_code != ""
        or job.job_type not in DOCUMENTED_WORDS
        or job.status not in DOCUMENTED_WORDS
        for job in page.jobs
    ]
    if not any(searched) and not page.set_apart:
        return page
    return replace(
        page,
        jobs=tuple(
            _masked_job(job, secrets, with_details=with_details) if search else job
            for job, search in zip(page.jobs, searched, strict=True)
        ),
        set_apart=tuple(replace(row, status=secrets.masked_label(row.status)) for row in page.set_apart),
    )


def _masked_job(job: Job, secrets: Secrets, *, with_details: bool) -> Job:
    masked: dict[str, str] = {}
    for name in ("job_type", "status", "msg_code"):
        label = getattr(job, name)
        if label and label not in DOCUMENTED_WORDS:
            masked[name] = secrets.masked_label(label)
    if job.msg_error:
        masked["msg_error"] = secrets.masked(job.msg_error)
    if with_details:
        masked["resource_spec"] = secrets.masked_label(job.resource_spec)
        # The contract: ids and numbers are never masked.
        if not (job.data_id.isascii() and job.data_id.isdigit()):
            masked["data_id"] = secrets.masked(job.data_id)
    changed = {name: text for name, text in masked.items() if text != getattr(job, name)}
    return msgspec.structs.replace(job, **changed) if changed else job


def parse_time_ms(value: object) -> int | None:
    """Read a time such as 2022-01-01T08:08:29Z, by default UTC; None if it is none of the years 1 to 9999."""
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
    Calculate how far the server's clock is ahead of the local clock.

    The server reports a whole second, at an unknown moment between sending and receiving. If that second
    overlaps with the exchange, the clocks may agree and the skew is 0. Otherwise it is the distance between
    the middles of the two.
    Units: seconds; `sent_at` and `received_at` in Unix seconds by the local clock.
    """
    server = server_time_ms / 1000
    if sent_at <= server + 1 and server <= received_at:
        return 0.0
    return (server + 0.5) - (sent_at + received_at) / 2
