"""What is asked at the first contact with an API, and what came: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from exporter.errors import ApiError
from exporter.model import Job
from exporter.octopus.messages import Response
from exporter.octopus.tolerant import Numeral, read_json, read_row, whole_number
from exporter.octopus.wire import ListQuery, Page, parse_time_ms
from exporter.sync.filters import ArrayStyle

Topic = Literal[
    "page",
    "size",
    "long",
    "next",
    "end",
    "one",
    "statuses",
    "job_types",
    "start_time",
    "future",
    "id",
    "workspace_id",
    "failed",
    "path",
    "pair",
]
ListForm = Literal["list", "null", "missing", "other"]
NumberForm = Literal["number", "text", "fraction", "negative", "null", "missing", "other"]
TimeForm = Literal["read", "missing", "other"]


@dataclass(frozen=True, slots=True)
class Question:
    """
    One page to ask for, and what it is to show.

    Shape: `form` is how an array is sent (None: the question is of no array), `values` what it is meant to
    ask for; `workspace_id` and `path` are sent in place of the target's own.
    """

    topic: Topic
    query: ListQuery
    form: ArrayStyle | None = None
    values: tuple[str, ...] = ()
    workspace_id: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """
    The JSON of an answer with status 200, as far as it goes.

    Shape: `is_clean` if it is strict JSON in UTF-8, which needed no repair; `rows` are JSON values as
    `text.read_json` gives them; the forms are those of payload.list, page_info.total and
    meta_info.current_time. Units: `sent_at` and `received_at` in Unix seconds.
    """

    is_clean: bool
    list_form: ListForm
    total_form: NumberForm
    time_form: TimeForm
    rows: tuple[object, ...]
    sent_at: float
    received_at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What came of a question: a page or an error.

    Shape: `raw` is there where a JSON object came, in spite of an error too. Units: our own clock.
    """

    question: Question
    asked_ms: int
    answered_ms: int
    page: Page | None = None
    error: ApiError | None = None
    raw: RawAnswer | None = None

    @property
    def status(self) -> int:
        """The HTTP status of an error; 0 where none came, and for a page."""
        return 0 if self.error is None else self.error.status

    @property
    def rows(self) -> int:
        return 0 if self.page is None else self.page.rows

    @property
    def ids(self) -> frozenset[int]:
        if self.page is None:
            return frozenset()
        apart = (row.job_id for row in self.page.set_apart if row.job_id is not None)
        return frozenset([*(job.id for job in self.page.jobs), *apart])

    @property
    def jobs(self) -> tuple[Job, ...]:
        return () if self.page is None else self.page.jobs

    @property
    def total(self) -> int | None:
        return None if self.page is None else self.page.total


def pages_of(answers: Iterable[Answer], *topics: Topic) -> list[Answer]:
    """Give the answers that are pages; of these topics, where any are named."""
    return [a for a in answers if a.page is not None and (not topics or a.question.topic in topics)]


def read_raw(response: Response) -> RawAnswer | None:
    """Take an answer apart without judging it; None where it is no JSON object with status 200."""
    if response.status != 200:
        return None
    try:
        answer = read_json(response.body, response.headers.get("content-type", ""))
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    payload, meta = _mapping(answer.get("payload")), _mapping(answer.get("meta_info"))
    info = _mapping(payload.get("page_info"))
    rows = payload.get("list")
    return RawAnswer(
        is_clean=_is_clean(response.body),
        list_form=_list_form(payload),
        total_form=_number_form(info),
        time_form=_time_form(meta),
        rows=tuple(rows) if isinstance(rows, list) else (),
        sent_at=response.sent_at,
        received_at=response.received_at,
    )


def distinct_rows(answers: Iterable[Answer]) -> list[object]:
    """Give every row once, as it came last; rows without a readable id are told apart by their content."""
    rows: dict[str, object] = {}
    for answer in answers:
        for row in answer.raw.rows if answer.raw is not None else ():
            worth = read_row(row, 0, frozenset())
            job_id = worth.id if isinstance(worth, Job) else worth.job_id
            key = worth.digest if job_id is None and not isinstance(worth, Job) else str(job_id)
            rows[key] = row
    return list(rows.values())


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _is_clean(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _list_form(payload: Mapping[str, object]) -> ListForm:
    if "list" not in payload:
        return "missing"
    found = payload["list"]
    return "list" if isinstance(found, list) else "null" if found is None else "other"


def _number_form(info: Mapping[str, object]) -> NumberForm:
    if "total" not in info:
        return "missing"
    total = info["total"]
    number = whole_number(total)
    if total is None:
        return "null"
    if number is None:
        return "other"
    if number < 0:
        return "negative"
    if isinstance(total, Numeral | float):
        return "fraction"
    return "text" if isinstance(total, str) else "number"


def _time_form(meta: Mapping[str, object]) -> TimeForm:
    if meta.get("current_time") is None:
        return "missing"
    return "other" if parse_time_ms(meta["current_time"]) is None else "read"
