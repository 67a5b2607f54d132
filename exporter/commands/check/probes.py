"""
The probes of `check --online`, and what came of them: pure.

A probe is one request that shows what the server does. `next_probes` is called again after each round of
results, until it gives no more. The first page decides the rest: which values of a filter to ask for, from
which time on, for which id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from exporter.errors import AnswerTooLarge, ApiError
from exporter.model import FAILED_STATUSES, JOB_TYPES, STATUSES, Job, is_terminal
from exporter.octopus.messages import Response
from exporter.octopus.tolerant import Numeral, read_json, read_row, whole_number
from exporter.octopus.wire import ListQuery, Page, parse_time_ms
from exporter.sync.server_traits import ArrayStyle, smaller_page, value_batches

ArrayTopic = Literal["statuses", "job_types"]
Topic = Literal[
    ArrayTopic,
    "page",
    "size",
    "long",
    "next",
    "end",
    "one",
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

DOCUMENTED_LIMIT = 200
# More than is documented, to see whether the server refuses or cuts it.
LONG_LIMIT = 500
# An id that no workspace is likely to have.
NO_WORKSPACE = "999999999"
# The documentation names the first in its table of URIs and the second in its example.
DOCUMENTED_PATHS = ("system-jobs", "system-job")
_END_ROWS = 10
_DAY_MS = 86_400_000
# A server that compares whole seconds rounds away less than this.
_AFTER_MS = 2_000
_ARRAY_TOPICS: tuple[ArrayTopic, ...] = ("statuses", "job_types")
_FORMS: tuple[ArrayStyle, ...] = ("single", "array", "comma")


@dataclass(frozen=True, slots=True)
class Probe:
    """
    One page to request, and what it is to show.

    Shape: `form` is how an array filter is sent (None: no array filter), `values` the values it asks for;
    `workspace_id` and `path` are sent in place of the target's own.
    """

    topic: Topic
    query: ListQuery
    form: ArrayStyle | None = None
    values: tuple[str, ...] = ()
    workspace_id: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class RawResponse:
    """
    The JSON of a response with status 200, as far as it can be read.

    Shape: `is_clean` if it is strict JSON in UTF-8, which needed no repair; `rows` are JSON values as
    `tolerant.read_json` gives them; the forms are those of payload.list, page_info.total and
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
class ProbeResult:
    """A page or an error. Shape: `raw` is set where a JSON object came. Units: times by our own clock."""

    probe: Probe
    asked_ms: int
    answered_ms: int
    page: Page | None = None
    error: ApiError | None = None
    raw: RawResponse | None = None

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


@dataclass(frozen=True, slots=True)
class FilterValues:
    """Values to try a filter with: `one` alone, `two` together. Shape: `known` are on the first page."""

    one: str
    two: tuple[str, str]
    known: frozenset[str]


def pages_of(results: Iterable[ProbeResult], *topics: Topic) -> list[ProbeResult]:
    """Return the results that are pages; only those of `topics`, if any are given."""
    return [one for one in results if one.page is not None and (not topics or one.probe.topic in topics)]


def first_page(results: Iterable[ProbeResult]) -> ProbeResult | None:
    return next(iter(pages_of(results, "page")), None)


def distinct_rows(results: Iterable[ProbeResult]) -> list[object]:
    """Return every row once, as it came last; rows without a readable id are compared by their content."""
    rows: dict[str, object] = {}
    for result in results:
        for row in result.raw.rows if result.raw is not None else ():
            read = read_row(row, 0, frozenset())
            if isinstance(read, Job):
                rows[str(read.id)] = row
            else:
                rows[read.digest if read.job_id is None else str(read.job_id)] = row
    return list(rows.values())


def read_raw(response: Response) -> RawResponse | None:
    """Take a response apart without judging it; None where it is no JSON object with status 200."""
    if response.status != 200:
        return None
    try:
        answer = read_json(response.body, response.headers.get("content-type", ""))
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    try:
        msgspec.json.decode(response.body)
        is_clean = True
    # The tolerant reader above has repaired what the strict one refuses here.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        is_clean = False
    payload, meta = _mapping(answer.get("payload")), _mapping(answer.get("meta_info"))
    rows, server_time = payload.get("list"), meta.get("current_time")
    list_form: ListForm = "list" if isinstance(rows, list) else "null" if rows is None else "other"
    time_form: TimeForm = "missing" if server_time is None else "read"
    return RawResponse(
        is_clean=is_clean,
        list_form=list_form if "list" in payload else "missing",
        total_form=_total_form(_mapping(payload.get("page_info"))),
        time_form="other" if time_form == "read" and parse_time_ms(server_time) is None else time_form,
        rows=tuple(rows) if isinstance(rows, list) else (),
        sent_at=response.sent_at,
        received_at=response.received_at,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _total_form(info: Mapping[str, object]) -> NumberForm:
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


def next_probes(results: Sequence[ProbeResult], path: str) -> list[Probe]:
    """Return what to ask next, the most useful first; nothing at the end. Shape: `path` is the target's."""
    first = first_page(results)
    wanted = _first_page_probes(results, path) if first is None else _probes(first, results)
    asked = {result.probe for result in results}
    return [probe for probe in wanted if probe not in asked]


def _first_page_probes(results: Sequence[ProbeResult], path: str) -> Iterator[Probe]:
    if not results:
        yield Probe("page", ListQuery(limit=DOCUMENTED_LIMIT))
        return
    last = results[-1]
    smaller = smaller_page(last.probe.query.limit)
    # The limit may be what was refused.
    if smaller is not None and (last.status == 400 or isinstance(last.error, AnswerTooLarge)):
        yield Probe("page", ListQuery(limit=smaller))
    if last.status == 404:
        others = (other for other in DOCUMENTED_PATHS if other != path)
        yield from (Probe("path", ListQuery(limit=1), path=other) for other in others)


def _probes(first: ProbeResult, results: Sequence[ProbeResult]) -> Iterator[Probe]:
    limit = first.probe.query.limit
    tried = {topic: tried_values(topic, first.jobs) for topic in _ARRAY_TOPICS}
    for topic, values in tried.items():
        for form in _FORMS:
            wanted = (values.one,) if form == "single" else values.two
            (sent,) = value_batches(form, wanted)
            query = ListQuery(limit=limit)
            query = replace(query, statuses=sent) if topic == "statuses" else replace(query, job_types=sent)
            yield Probe(topic, query, form, wanted)
    # A page may have been full of jobs with one of the two values. Where the other is missing, the id of one
    # job that has it is sent too: a single job always has room on the page.
    for topic, values in tried.items():
        for result in pages_of(results, topic):
            missing = missing_values(topic, values, result)
            if missing and result.rows:
                job_id = next(job.id for job in first.jobs if value_of(topic, job) == missing[0])
                yield replace(result.probe, topic="pair", query=replace(result.probe.query, job_id=job_id))
    yield from _filter_probes(first, results, limit)
    if first.rows:
        yield Probe("next", ListQuery(offset=first.rows, limit=limit))
        # Limited to one row: a server that repeats earlier rows then gives more than the limit.
        yield Probe("one", ListQuery(offset=first.rows // 2, limit=1))
        if first.total is not None and first.total > first.rows:
            # The end of the list shows whether the total is right.
            offset = max(first.total - _END_ROWS, first.rows)
            yield Probe("end", ListQuery(offset=offset, limit=2 * _END_ROWS))
    # Listings by one status show failed jobs, and so error codes, if the server applies that filter.
    one = [result for result in pages_of(results, "statuses") if result.probe.form == "single"]
    if one and all(job.status == tried["statuses"].one for job in one[0].jobs):
        yield from (Probe("failed", ListQuery(statuses=(s,), limit=limit)) for s in FAILED_STATUSES)
    yield from _size_probes(results)


def _filter_probes(first: ProbeResult, results: Sequence[ProbeResult], limit: int) -> Iterator[Probe]:
    yield Probe("workspace_id", ListQuery(limit=limit), workspace_id=NO_WORKSPACE)
    tomorrow_ms = first.answered_ms // 1000 * 1000 + _DAY_MS
    yield Probe("future", ListQuery(start_time_ms=tomorrow_ms, limit=limit))
    if not first.jobs:
        return
    yield Probe("start_time", ListQuery(start_time_ms=middle_time_ms(first.jobs), limit=limit))
    middle = len(first.jobs) // 2
    yield Probe("id", ListQuery(job_id=first.jobs[middle].id, limit=limit))
    asked = [result for result in results if result.probe.topic == "id"]
    if asked and asked[0].page is not None and not asked[0].rows:
        # The job may have been deleted since the first page.
        yield Probe("id", ListQuery(job_id=first.jobs[0].id, limit=limit))


def _size_probes(results: Sequence[ProbeResult]) -> Iterator[Probe]:
    """Search for the largest page: between the largest limit that was accepted and the smallest refused."""
    asked = [result for result in results if result.probe.topic in ("page", "size")]
    refused = [result.probe.query.limit for result in asked if result.status == 400]
    accepted = max(result.probe.query.limit for result in pages_of(asked))
    if not refused:
        if not any(isinstance(result.error, AnswerTooLarge) for result in asked):
            yield Probe("long", ListQuery(limit=LONG_LIMIT))
    elif min(refused) - accepted > 1:
        # The limit is most likely a round number that was accepted already, so one row more comes first.
        is_begun = any(result.probe.topic == "size" for result in asked)
        limit = (accepted + min(refused)) // 2 if is_begun else accepted + 1
        yield Probe("size", ListQuery(limit=limit))


def middle_time_ms(jobs: Sequence[Job]) -> int:
    """Return a time that some job was created before: the middle one, or one after all of them."""
    times = sorted(job.created_ms for job in jobs)
    middle = times[len(times) // 2]
    return middle if times[0] < middle - _AFTER_MS else times[-1] + _AFTER_MS


def missing_values(topic: ArrayTopic, tried: FilterValues, result: ProbeResult) -> list[str]:
    """Return the values that were asked for and are known to have jobs, but that no row has."""
    found = {value_of(topic, job) for job in result.jobs}
    return [value for value in result.probe.values if value in tried.known and value not in found]


def value_of(topic: ArrayTopic, job: Job) -> str:
    return job.status if topic == "statuses" else job.job_type


def tried_values(topic: ArrayTopic, jobs: Iterable[Job]) -> FilterValues:
    """
    Choose two rare values: one page may hold all their jobs, and more jobs have another value.

    They are in the order in which repeated keys are sent, which is sorted. Where only one value is known, a
    value that no job has comes first if there is one: it must not hide the other.
    """
    found = Counter(value_of(topic, job) for job in jobs)
    documented = STATUSES if topic == "statuses" else JOB_TYPES
    known = sorted(
        (value for value in found if value in documented),
        # Terminal statuses first, as jobs do not leave them meanwhile.
        key=lambda value: (topic == "statuses" and not is_terminal(value), found[value], value),
    )
    absent = sorted(value for value in documented if value not in found)
    if len(known) > 1:
        one, other = known[:2]
    elif known and absent:
        one, other = absent[0], known[0]
    else:
        one, other = documented[:2]
    return FilterValues(one, (min(one, other), max(one, other)), frozenset(found))
