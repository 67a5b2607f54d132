"""Show a first contact: a table of the targets, and under it what was found out about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.table import Table

from exporter.check.asking import Contact
from exporter.check.findings import (
    ArrayFilter,
    ClockFindings,
    Findings,
    Kind,
    PageFindings,
    RowFindings,
    TotalFindings,
)
from exporter.check.judge_rows import problems_of
from exporter.check.judging import judge
from exporter.errors import ApiError
from exporter.masking import Secrets

_NAME_CHARS = 12
_MOST_PROBLEMS = 5


def table(contacts: Sequence[Contact], secrets: Secrets) -> Table:
    """Lay the targets out for people, a line each; ids are never cut."""
    shown = Table(title="What the API says")
    for name in ("project", "workspace", "credentials", "answer", "jobs", "clock"):
        shown.add_column(name, overflow="fold")
    for contact in contacts:
        target, findings = contact.target, found(contact)
        first = next((a.page for a in contact.answers if a.page is not None), None)
        jobs = "" if first is None or first.total is None else str(first.total)
        answer = "works" if contact.error is None else f"fails: {contact.error.reason}"
        clock = "" if findings is None or findings.clock.most is None else f"{findings.clock.most:+.1f} s"
        row = (target.project, target.workspace, target.credentials, answer, jobs, clock)
        shown.add_row(*map(secrets.masked, row))
    return shown


def found(contact: Contact) -> Findings | None:
    """Judge what a target answered; None where it did not."""
    return None if contact.error is not None else judge(contact.answers, contact.target.workspace_id)


def paragraphs(contacts: Iterable[Contact], secrets: Secrets) -> list[str]:
    """Give a paragraph for each target: why it fails, or what was found out about it."""
    return [secrets.masked(_paragraph(contact)) for contact in contacts]


def _paragraph(contact: Contact) -> str:
    target, findings = contact.target, found(contact)
    head = f"{target.project}, workspace {target.workspace} (credentials {target.credentials})"
    if findings is None:
        return "\n".join([f"{head} fails:", *_failure(contact.error)])
    lines = {
        "filters": _filters(findings),
        "page": _page(findings.page),
        "order": " and ".join(findings.order) or "unknown",
        "totals": _totals(findings.totals),
        "clock": _clock(findings.clock),
        "types": _words(findings.job_types),
        "statuses": _words(findings.statuses),
        "codes": ", ".join(f"{one.code} ({one.rows})" for one in findings.codes) or "none",
        "specs": ", ".join(f"{one.spec} ({one.rows})" for one in findings.resource_specs) or "none",
        "rows": _rows(findings.rows, problems_of(contact.answers)),
        "fields": _fields(findings.rows.fields) + _others(findings.rows),
        "answers": _body(findings),
        "polls": _polls(findings),
        "cost": _cost(contact),
    }
    return "\n".join([f"{head} works:", *(f"  {name:<{_NAME_CHARS}}{text}" for name, text in lines.items())])


def _failure(error: ApiError | None) -> list[str]:
    if error is None:
        return []
    facts = {
        "reason": error.reason,
        "message": error.message,
        "status": error.status or "",
        "code": error.code,
        "url": error.url,
        "request id": error.request_id,
    }
    return [f"  {name:<{_NAME_CHARS}}{value}" for name, value in facts.items() if value != ""]


def _filters(findings: Findings) -> str:
    filters = findings.filters
    return "; ".join(
        [
            _array("statuses", filters.statuses),
            _array("job_types", filters.job_types),
            f"start_time: {filters.start_time}",
            f"id: {filters.id}",
            f"workspace_id: {filters.workspace_id}",
            f"offset: {filters.offset}",
        ]
    )


def _array(name: str, found: ArrayFilter) -> str:
    return (
        f"{name}: one value: {found.one_value}, repeated keys: {found.repeated_keys}, "
        f"comma: {found.comma}, polls use {found.used}"
    )


def _page(page: PageFindings) -> str:
    longest = f"{page.longest} rows {'at most' if page.is_largest else 'came'}"
    repeated = f"; {page.repeated_rows} rows of a page come again on the next" if page.repeated_rows else ""
    return f"{longest}; a larger limit: {page.above}{repeated}"


def _totals(totals: TotalFindings) -> str:
    detail = "" if totals.rows_off is None else f" by {abs(totals.rows_off)}"
    detail += "" if totals.cap is None else f" at {totals.cap}"
    odd = [form for form in totals.forms if form != "number"]
    return totals.verdict + detail + (f" (written as {', '.join(odd)})" if odd else "")


def _clock(clock: ClockFindings) -> str:
    if clock.least is None or clock.most is None:
        told = f"current_time: {'missing' if clock.current_time == 'missing' else 'is no time'}"
    elif clock.least == clock.most:
        told = f"current_time {clock.most:+.1f} s against ours"
    else:
        told = f"current_time {clock.least:+.1f} to {clock.most:+.1f} s against ours"
    newest = "no row" if clock.newest_row is None else f"newest row {clock.newest_row:+.1f} s against ours"
    return f"{told}; {newest}; polls go by a clock {clock.polls_go_by:+.1f} s against ours"


def _words(seen: Iterable[Any]) -> str:
    texts = (f"{one.name} ({one.rows}{'' if one.documented else ', undocumented'})" for one in seen)
    return ", ".join(texts) or "none"


def _rows(rows: RowFindings, problems: Mapping[str, int]) -> str:
    if not problems:
        return f"{rows.rows} read"
    worst = sorted(problems.items(), key=lambda one: -one[1])[:_MOST_PROBLEMS]
    named = "; ".join(f"{problem} ({times})" for problem, times in worst)
    more = f"; and {len(problems) - len(worst)} more" if len(problems) > len(worst) else ""
    return f"{rows.rows} came, {sum(problems.values())} cannot be read: {named}{more}"


def _fields(fields: Mapping[str, Mapping[Kind, int]]) -> str:
    """Tell of each field what it is not in all rows: the usual form goes without saying."""
    texts = []
    for name, kinds in fields.items():
        odd = [f"{kind} ({rows})" for kind, rows in kinds.items() if kind not in ("number", "text")]
        texts += [f"{name}: {', '.join(odd)}"] if odd else []
    return "; ".join(texts) or "all there"


def _others(rows: RowFindings) -> str:
    others = f"; undocumented: {', '.join(rows.other_fields)}" if rows.other_fields else ""
    early = f"; {rows.durations_in_flight} jobs in flight have a running_duration"
    workspaces = f"; workspace_id: {rows.workspace_ids}"
    return others + (early if rows.durations_in_flight else "") + workspaces


def _body(findings: Findings) -> str:
    empty = ", ".join(findings.body.empty_list) or "none came"
    return f"JSON: {findings.body.json}; list where there are no rows: {empty}"


def _polls(findings: Findings) -> str:
    if findings.filters.changes_only:
        return "can ask for what changed"
    return "have to list everything each time: a filter or the total does not do as documented"


def _cost(contact: Contact) -> str:
    cost = contact.cost
    rest = "" if cost.complete else "; not everything was asked"
    return (
        f"{cost.requests} requests in {cost.seconds:g} s, one takes {cost.median:g} s, "
        f"{cost.longest:g} s at most{rest}"
    )


def as_json(contacts: Iterable[Contact], secrets: Secrets) -> list[dict[str, Any]]:
    """Give the targets as JSON values, with their names and the errors' words; secrets are masked."""
    return [_masked(_target(contact), secrets) for contact in contacts]


def _target(contact: Contact) -> dict[str, Any]:
    target, error, findings = contact.target, contact.error, found(contact)
    return {
        "project": target.project,
        "workspace": target.workspace,
        "credentials": target.credentials,
        "works": error is None,
        "error": None if error is None else _error(error),
        "findings": msgspec.to_builtins(findings),
        "unreadable": problems_of(contact.answers),
        "cost": msgspec.to_builtins(contact.cost),
    }


def _error(error: ApiError) -> dict[str, Any]:
    return {
        "reason": error.reason,
        "message": error.message,
        "status": error.status,
        "code": error.code,
        "url": error.url,
        "request_id": error.request_id,
    }


def _masked(value: Any, secrets: Secrets) -> Any:
    """Mask every text in a JSON value."""
    if isinstance(value, str):
        return secrets.masked(value)
    if isinstance(value, dict):
        return {secrets.masked(key): _masked(one, secrets) for key, one in value.items()}
    return [_masked(one, secrets) for one in value] if isinstance(value, list | tuple) else value
