"""
Which filters of the list work, judged by the rows that came: pure.

A filter is "ignored" where rows came that were not asked for, "refused" where the server answers with an
error because of it, and "unknown" where the results cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from exporter.commands.check.findings import ArrayFilter, FilterFindings, FormWorks, Works
from exporter.commands.check.probes import (
    ArrayTopic,
    ProbeResult,
    Topic,
    first_page,
    missing_values,
    pages_of,
    tried_values,
    value_of,
)
from exporter.model import Job
from exporter.sync.server_traits import ArrayStyle, FilterName, Filters, rejected_filter, unapplied_filter

# So few rows may all be repeated behind an offset by a list that moves.
_FEW = 4


def filter_findings(
    results: Sequence[ProbeResult], longest: int | None, *, has_totals: bool
) -> FilterFindings:
    """Judge every filter. Shape: `longest` is the server's own limit of rows per page, None if unknown."""
    statuses, job_types = _array("statuses", results, longest), _array("job_types", results, longest)
    start_time, by_id, workspace = _start_time(results), _id(results), _workspace(results)
    # What polls assume until they find out more: the documented form of an array, and that filters work.
    polls = Filters(
        statuses="array" if statuses.used == "unknown" else statuses.used,
        job_types="array" if job_types.used == "unknown" else job_types.used,
        start_time=start_time in ("works", "unknown"),
        id=by_id in ("works", "unknown"),
        workspace=workspace != "ignored",
        totals=has_totals,
    )
    return FilterFindings(
        statuses=statuses,
        job_types=job_types,
        start_time=start_time,
        id=by_id,
        workspace_id=workspace,
        offset=_offset(results),
        changes_only=polls.can_tell_changes,
    )


def _array(name: ArrayTopic, results: Sequence[ProbeResult], longest: int | None) -> ArrayFilter:
    first = first_page(results)
    jobs = () if first is None else first.jobs
    tried = tried_values(name, jobs)
    one = _form(name, "single", jobs, results, longest)
    repeated = _form(name, "array", jobs, results, longest)
    comma = _form(name, "comma", jobs, results, longest)
    # Where all jobs have one of the two values, a page of both looks like a page of all jobs.
    if one != "works" and not tried.known - set(tried.two):
        repeated = one if repeated == "works" else repeated
        comma = one if comma == "works" else comma
    used: ArrayStyle | Literal["unknown"] = "unknown" if "unknown" in (one, repeated, comma) else "none"
    if repeated == "works":
        used = "array"
    elif comma == "works":
        used = "comma"
    elif one == "works":
        used = "single"
    return ArrayFilter(one_value=one, repeated_keys=repeated, comma=comma, used=used)


def _form(
    name: ArrayTopic,
    form: ArrayStyle,
    first_jobs: Sequence[Job],
    results: Sequence[ProbeResult],
    longest: int | None,
) -> FormWorks:
    """Judge one way to send an array."""
    result = next((one for one in _asked(results, name) if one.probe.form == form), None)
    if result is None or result.page is None:
        is_refused = result is not None and rejected_filter(result.probe.query, result.status) == name
        return "refused" if is_refused else "unknown"
    tried, query, wanted = tried_values(name, first_jobs), result.probe.query, result.probe.values
    # Beside the rule of the polls: jobs that the first page showed with another value came all the same. A
    # few of them may be jobs that changed between the two pages.
    others = {job.id for job in first_jobs if value_of(name, job) not in wanted}
    if unapplied_filter(query, result.jobs) == name or (
        others and 2 * len(others & result.ids) >= len(others)
    ):
        return "ignored"
    missing = missing_values(name, tried, result)
    if not missing:
        # An empty page proves nothing without a job on the first page, nor does one known value at the end.
        is_lone = len(wanted) > 1 and wanted[0] in tried.known and wanted[1] not in tried.known
        return "works" if tried.known and not is_lone else "unknown"
    lacking: FormWorks = "last value only" if wanted[0] in missing else "first value only"
    if not result.rows:
        lacking = "finds nothing" if wanted[0] in tried.known or form == "comma" else "first value only"
    if result.rows < (query.limit if longest is None else min(query.limit, longest)):
        return lacking
    # On a full page the missing value may have jobs on the next one. One of them was asked for by its id.
    for pair in pages_of(results, "pair") if form != "single" else ():
        sent = pair.probe.query.statuses if name == "statuses" else pair.probe.query.job_types
        if sent and pair.probe.form == form and pair.ids <= {pair.probe.query.job_id}:
            return "works" if pair.rows else lacking
    return "unknown"


def _asked(results: Sequence[ProbeResult], *topics: Topic) -> list[ProbeResult]:
    return [result for result in results if result.probe.topic in topics]


def _unless_answered(name: FilterName, asked: Sequence[ProbeResult]) -> Works | None:
    """Judge what does not depend on which rows came; None where a filter may work."""
    if any(unapplied_filter(result.probe.query, result.jobs) == name for result in asked):
        return "ignored"
    if pages_of(asked):
        return None
    is_refused = any(rejected_filter(result.probe.query, result.status) == name for result in asked)
    return "refused" if is_refused else "unknown"


def _start_time(results: Sequence[ProbeResult]) -> Works:
    asked = _asked(results, "start_time", "future")
    if (plain := _unless_answered("start_time", asked)) is not None:
        return plain
    first, middle = first_page(results), pages_of(asked, "start_time")
    if first is None or not first.jobs or not middle:
        return "unknown"
    since_ms = middle[0].probe.query.start_time_ms or 0
    # If no job of the first page is that new, an empty page is right.
    is_expected = any(job.created_ms >= since_ms for job in first.jobs)
    return "finds nothing" if is_expected and not middle[0].rows else "works"


def _id(results: Sequence[ProbeResult]) -> Works:
    asked = _asked(results, "id")
    if (plain := _unless_answered("id", asked)) is not None:
        return plain
    return "works" if any(result.rows for result in pages_of(asked)) else "finds nothing"


def _workspace(results: Sequence[ProbeResult]) -> Works:
    """Judge by a workspace that does not exist: it has no jobs, whether it is answered or refused."""
    first, asked = first_page(results), _asked(results, "workspace_id")
    if not asked or first is None:
        return "unknown"
    if asked[0].page is None:
        return "works" if asked[0].status in (204, 400, 403, 404) else "unknown"
    if asked[0].rows:
        return "ignored"
    return "works" if first.rows else "unknown"


def _offset(results: Sequence[ProbeResult]) -> Works:
    first = first_page(results)
    if first is None or not first.ids:
        return "unknown"
    for result in pages_of(results, "next"):
        if result.ids:
            if not result.ids >= first.ids:
                return "works"
            return "ignored" if first.rows > _FEW else "unknown"
    for result in pages_of(results, "one"):
        # The first row of the list again, behind an offset: the offset had no effect.
        if first.rows > _FEW and result.jobs and first.jobs:
            return "ignored" if result.jobs[0].id == first.jobs[0].id else "works"
    return "unknown"
