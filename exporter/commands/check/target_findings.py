"""Judges pages, order, totals, clocks, rows and bodies by the results of the probes: pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Literal

from exporter.commands.check.filter_findings import filter_findings
from exporter.commands.check.findings import (
    Above,
    BodyFindings,
    ClockFindings,
    Findings,
    Kind,
    OrderedBy,
    PageFindings,
    RowFindings,
    SeenCode,
    SeenSpec,
    SeenType,
    TotalFindings,
    TotalsVerdict,
    Unreadable,
)
from exporter.commands.check.probes import (
    DOCUMENTED_LIMIT,
    ListForm,
    ProbeResult,
    distinct_rows,
    first_page,
    pages_of,
)
from exporter.errors import AnswerTooLarge, ContractError
from exporter.model import JOB_TYPES, STATUSES, Job
from exporter.octopus.tolerant import EARLIEST_MS, Numeral, SetApartRow, clean_label, read_row, whole_number
from exporter.octopus.wire import clock_skew
from exporter.sync.server_clock import Clocks
from exporter.sync.unreadable import UnreadableRows

_KEYS: tuple[tuple[str, Callable[[Job], int]], ...] = (
    ("created", attrgetter("created_ms")),
    ("updated", attrgetter("updated_ms")),
    ("id", attrgetter("id")),
)
_LEAST_ORDERED = 3
# A row whose times are wrong breaks an order once or twice; if the order is another one, many rows break it.
_ONE_ODD_IN = 100

# Source: API reference, "querying the list of internal jobs", table 6.
_TIMES = ("create_at", "update_at", "start_at", "end_at")
_DURATIONS = ("submitting_duration", "running_duration")
_TEXTS = ("job_type", "data_id", "status", "project_id", "resource_spec", "msg_error", "workspace_id")
FIELDS = ("id", *_TEXTS, *_TIMES, *_DURATIONS, "msg_code")
# The output and the report stay short, however many words a server invents.
_MOST_WORDS = 50
_FIGURES = re.compile(r"\s*[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?\s*")


def findings_of(results: Sequence[ProbeResult], workspace_id: str | None) -> Findings:
    """Judge all results of one target. Shape: `workspace_id` is the one asked for, None if none was sent."""
    # Without offset only: behind one, a server that repeats rows adds them to a page that is full already.
    longest = max((one.rows for one in pages_of(results) if not one.probe.query.offset), default=0)
    above, is_largest = _above(results, longest)
    totals = total_findings(results)
    has_totals = totals.verdict not in ("missing", "unusable")
    jobs = [job for row in distinct_rows(results) if isinstance(job := read_row(row, 0, frozenset()), Job)]
    codes = _counted(job.msg_code for job in jobs if job.msg_code)
    specs = _counted(job.resource_spec for job in jobs if job.resource_spec)
    raw = [result.raw for result in results if result.raw is not None]
    empty: list[ListForm | Literal["no content"]] = [one.list_form for one in raw if not one.rows]
    if any(result.status == 204 for result in results):
        empty.append("no content")
    return Findings(
        filters=filter_findings(results, _server_limit(results), has_totals=has_totals),
        page=PageFindings(
            longest=longest, is_largest=is_largest, above=above, repeated_rows=_repeated_rows(results)
        ),
        order=order_findings(results),
        totals=totals,
        clock=_clock_findings(results),
        job_types=_seen_types((job.job_type for job in jobs), JOB_TYPES),
        statuses=_seen_types((job.status for job in jobs), STATUSES),
        codes=tuple(SeenCode(code=code, rows=rows) for code, rows in codes),
        resource_specs=tuple(SeenSpec(spec=spec, rows=rows) for spec, rows in specs),
        rows=_row_findings(results, jobs, workspace_id),
        body=BodyFindings(
            json="clean" if all(one.is_clean for one in raw) else "repaired",
            empty_list=tuple(dict.fromkeys(empty)),
        ),
    )


def _seen_types(words: Iterable[str], documented: Sequence[str]) -> tuple[SeenType, ...]:
    counted = _counted(words)
    return tuple(SeenType(name=word, rows=rows, documented=word in documented) for word, rows in counted)


def _counted(words: Iterable[str]) -> list[tuple[str, int]]:
    """Count words, the most frequent first; of very many the rare ones are left out."""
    return sorted(Counter(words).items(), key=lambda one: (-one[1], one[0]))[:_MOST_WORDS]


def _above(results: Sequence[ProbeResult], longest: int) -> tuple[Above, bool]:
    """Judge what becomes of a larger limit, and whether the longest page is the largest there is."""
    asked = [one for one in results if one.probe.topic in ("page", "size", "long")]
    if any(isinstance(one.error, AnswerTooLarge) for one in asked):
        return "too long", False
    if _server_limit(results) is not None:
        return "clamped", True
    if any(one.status == 400 for one in asked):
        accepted = max((one.probe.query.limit for one in pages_of(asked)), default=0)
        return "refused", longest >= accepted > 0
    if longest > DOCUMENTED_LIMIT:
        return "accepted", False
    return ("clamped", True) if _more_follow(results) and pages_of(asked, "long") else ("unknown", False)


def _more_follow(results: Sequence[ProbeResult]) -> bool:
    """Return whether the list goes on behind the first page."""
    first = first_page(results)
    return first is not None and any(one.ids - first.ids for one in pages_of(results, "next", "end"))


def _server_limit(results: Sequence[ProbeResult]) -> int | None:
    """Return the server's own limit of rows per page; None where no page shows that it is below ours."""
    first = first_page(results)
    if first is None or first.rows >= first.probe.query.limit or not _more_follow(results):
        return None
    return first.rows


def _repeated_rows(results: Sequence[ProbeResult]) -> int:
    """
    Count the rows from before an offset that came again, where a page is longer than its limit.

    On a page within its limit they may come from jobs that moved along the list meanwhile.
    """
    first = first_page(results)
    jobs = () if first is None else first.jobs
    for result in pages_of(results, "one"):
        query = result.probe.query
        before = {job.id for job in jobs[: query.offset]}
        # More rows than the limit: those above it were added, and are no jobs that moved.
        if result.rows > query.limit:
            return sum(job.id in before for job in result.jobs)
    return 0


def order_findings(results: Sequence[ProbeResult]) -> tuple[OrderedBy, ...]:
    """Name every order that all pages fit, but for a few odd rows; by id only where no time fits."""
    pages = [one.jobs for one in pages_of(results) if len(one.jobs) >= _LEAST_ORDERED]
    fits: list[OrderedBy] = []
    for name, key in _KEYS:
        if name == "id" and fits:
            break
        stamps = [list(map(key, jobs)) for jobs in pages]
        if not any(len(set(some)) >= _LEAST_ORDERED for some in stamps):
            continue
        pairs = [pair for some in stamps for pair in pairwise(some)]
        few = len(pairs) // _ONE_ODD_IN
        if sum(left < right for left, right in pairs) <= few:
            fits.append(f"{name}, descending")  # type: ignore[arg-type] # the names are those of OrderedBy
        elif sum(left > right for left, right in pairs) <= few:
            fits.append(f"{name}, ascending")  # type: ignore[arg-type] # likewise
    return tuple(fits)


@dataclass(frozen=True, slots=True)
class _TotalComparison:
    """
    A total, compared with the rows of the same response: both belong to one moment.

    Shape: `off` is total minus rows, exact where the list was seen to its end. A full page proves nothing
    about a total that is larger, so `off` is 0 then.
    """

    total: int
    off: int
    is_proof: bool


def total_findings(results: Sequence[ProbeResult]) -> TotalFindings:
    """Judge page_info.total by the rows of every result."""
    pages = pages_of(results)
    forms = tuple(dict.fromkeys(one.raw.total_form for one in pages if one.raw is not None))
    with_total = [one for one in pages if one.total is not None]
    compared = [each for one in with_total if (each := _compared_total(one, results)) is not None]
    low = [one for one in compared if one.off < 0]
    high = [one for one in compared if one.off > 0]
    # Totals are capped if they are right up to some number, and stay there.
    largest = max((one.total for one in compared), default=0)
    is_capped = all(one.total == largest for one in low) and (
        any(0 < one.total < largest for one in compared) or largest == 0
    )
    verdict: TotalsVerdict
    rows_off, cap = None, None
    if not with_total:
        verdict = "missing" if set(forms) <= {"missing", "null"} else "unusable"
    elif low and all(one.total == one.rows for one in with_total):
        verdict = "of the page"
    elif low and not high and is_capped:
        verdict, cap = "capped", largest
    elif low and high:
        verdict = "constant" if len({one.total for one in with_total}) == 1 else "differ both ways"
        rows_off = max(compared, key=lambda one: abs(one.off)).off
    elif low:
        verdict, rows_off = "too low", min(one.off for one in low)
    elif high:
        verdict, rows_off = "too high", max(one.off for one in high)
    else:
        verdict = "agree" if any(one.is_proof for one in compared) else "unknown"
    return TotalFindings(verdict=verdict, rows_off=rows_off, cap=cap, forms=forms)


def _compared_total(result: ProbeResult, results: Sequence[ProbeResult]) -> _TotalComparison | None:
    total, query, longest = result.total or 0, result.probe.query, _server_limit(results)
    rows = result.rows - (_repeated_rows(results) if query.offset else 0)
    end = query.offset + max(rows, 0)
    if result.rows >= (query.limit if longest is None else min(query.limit, longest)):
        return _TotalComparison(total, min(total - end, 0), is_proof=False)
    # An empty page behind an offset shows only a total that is too high, because it says that rows follow.
    if result.rows or not query.offset or total > query.offset:
        return _TotalComparison(total, total - end, is_proof=True)
    return None


def _clock_findings(results: Sequence[ProbeResult]) -> ClockFindings:
    """Compare the server's current_time and the times of its rows with our clock."""
    clocks, skews, newest = Clocks(), list[float](), list[float]()
    for result in pages_of(results):
        if result.page is None:
            continue
        server_ms, raw = result.page.server_time_ms, result.raw
        clocks.observe(server_ms, result.asked_ms, result.answered_ms, result.jobs)
        if server_ms is not None and raw is not None:
            skews.append(clock_skew(server_ms, raw.sent_at, raw.received_at))
        newest += [
            (max(job.updated_ms, job.ended_ms or 0) - result.answered_ms) / 1000 for job in result.jobs
        ]
    now_ms = results[-1].answered_ms if results else 0
    forms = [result.raw.time_form for result in pages_of(results) if result.raw is not None]
    return ClockFindings(
        current_time=next((form for form in forms if form != "read"), "read" if forms else "missing"),
        # To a tenth of a second: the server itself gives whole seconds only.
        least=round(min(skews), 1) if skews else None,
        most=round(max(skews), 1) if skews else None,
        newest_row=round(max(newest), 1) if newest else None,
        rows_ahead=round(max([*newest, 0.0]), 1),
        polls_go_by=round((clocks.row_time_ms(now_ms) - now_ms) / 1000, 1),
    )


def _row_findings(
    results: Sequence[ProbeResult], jobs: Sequence[Job], workspace_id: str | None
) -> RowFindings:
    rows = distinct_rows(results)
    objects = [row for row in rows if isinstance(row, dict)]
    kinds = {name: Counter(_field_kind(name, row) for row in objects) for name in FIELDS}
    apart = _set_apart(rows)
    unreadable: Counter[tuple[str, Kind]] = Counter()
    for row, one in apart:
        field = one.problem.partition(":")[0]
        unreadable[field, _field_kind(field, row) if isinstance(row, dict) else _kind(row)] += 1
    # Whether a poll that reads these rows would fail, by the poll's own rule.
    polled = UnreadableRows()
    polled.add([one for _, one in apart], 0, 0)
    try:
        polled.check(len(jobs) + len(polled.job_ids))
        are_too_many = len(polled) > 1 and not jobs
    except ContractError:
        are_too_many = True
    other_fields = _counted(clean_label(name) for row in objects for name in row if name not in FIELDS)
    return RowFindings(
        rows=len(rows),
        unreadable=tuple(
            Unreadable(field=field, found=kind, rows=count)
            for (field, kind), count in sorted(unreadable.items())
        ),
        too_many_unreadable=are_too_many,
        fields={name: dict(found) for name, found in kinds.items() if found},
        other_fields=tuple(name for name, _ in other_fields),
        durations_in_flight=sum(job.running_ms is not None and not job.has_ended for job in jobs),
        workspace_ids=_workspaces(results, workspace_id),
    )


def row_problems(results: Iterable[ProbeResult]) -> dict[str, int]:
    """Count the unreadable rows by what is wrong with them, with the values that were found."""
    return dict(Counter(apart.problem for _, apart in _set_apart(distinct_rows(results))))


def _set_apart(rows: Iterable[object]) -> list[tuple[object, SetApartRow]]:
    """Return the rows that cannot be read, each with what is wrong with it."""
    read = ((row, read_row(row, index, frozenset())) for index, row in enumerate(rows))
    return [(row, apart) for row, apart in read if isinstance(apart, SetApartRow)]


def _field_kind(name: str, row: Mapping[str, object]) -> Kind:
    """Classify the value of a row's field, without repeating it."""
    if name not in row:
        return "missing"
    value = row[name]
    number = whole_number(value) if name in (*_TIMES, *_DURATIONS) else None
    if number is not None and number <= 0:
        return "negative" if number < 0 else "zero"
    if name in _TIMES and number is not None and number < EARLIEST_MS:
        return "in seconds"
    found = _kind(value)
    # In a field for text, digits are a text and not a number in the wrong form.
    return "text" if name in _TEXTS and found in ("number as text", "fraction as text") else found


def _kind(value: object) -> Kind:
    match value:
        # The order counts: for Python a bool is an int, and a Numeral is a str.
        case None:
            kind: Kind = "null"
        case bool():
            kind = "boolean"
        case Numeral() | float():
            kind = "fraction"
        case int():
            kind = "number"
        case str() if not value.strip():
            kind = "empty text"
        case str() if _FIGURES.fullmatch(value):
            kind = "number as text" if value.strip().lstrip("+-").isdigit() else "fraction as text"
        case str():
            kind = "text"
        case _:
            kind = "list" if isinstance(value, list) else "object"
    return kind


def _workspaces(
    results: Sequence[ProbeResult], workspace_id: str | None
) -> Literal["as asked", "of others", "missing", "unknown"]:
    """Compare the workspace that rows name with the one that was asked for."""
    jobs = [j for one in pages_of(results) if one.probe.topic != "workspace_id" for j in one.jobs]
    named = {job.workspace_id for job in jobs if job.workspace_id is not None}
    if not jobs or (named and workspace_id is None):
        return "unknown"
    if not named:
        return "missing"
    return "as asked" if named == {workspace_id} else "of others"
