"""Show a first contact: a table of the targets, and under it what was found out about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from exporter.commands.check.answers import pages_of
from exporter.commands.check.asking import Contact
from exporter.commands.check.findings import (
    ArrayFilter,
    ClockFindings,
    Findings,
    Kind,
    PageFindings,
    RowFindings,
    TotalFindings,
)
from exporter.commands.check.judge_rows import problems_of
from exporter.commands.check.judging import judge
from exporter.errors import ApiError, PollError
from exporter.masking import Secrets

_NAME_CHARS = 12
_MOST_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Told:
    """
    What a target answered, judged.

    Shape: `findings` is None where no row came; `problems` are those of rows that cannot be read, with the
    number of the rows.
    """

    contact: Contact
    findings: Findings | None
    problems: Mapping[str, int]

    @classmethod
    def of(cls, contact: Contact) -> Told:
        is_worth_it = contact.error is None or any(answer.raw is not None for answer in contact.answers)
        findings = judge(contact.answers, contact.target.workspace_id) if is_worth_it else None
        return cls(contact, findings, problems_of(contact.answers))

    @property
    def works(self) -> bool:
        """Tell whether polls of this target succeed."""
        has_odd_rows = self.findings is not None and self.findings.rows.too_many_unreadable
        return self.contact.error is None and not has_odd_rows

    @property
    def other_path(self) -> str | None:
        """Name the path that answers where the target's own does not; None where there is none."""
        found = pages_of(self.contact.answers, "path")
        return found[0].question.path if found else None

    @property
    def answer(self) -> str:
        """Say in a word or two how the target answers."""
        if self.contact.error is not None:
            return f"fails: {self.contact.error.reason}"
        return "works" if self.works else "fails: rows"


def table(told: Iterable[Told], secrets: Secrets) -> Table:
    """Lay the targets out for people, a line each; ids are never cut."""
    shown = Table(title="What the API says")
    for name in ("project", "workspace", "credentials", "answer", "jobs", "clock"):
        shown.add_column(name, overflow="fold")
    for one in told:
        target, findings = one.contact.target, one.findings
        first = next((a.page for a in one.contact.answers if a.page is not None), None)
        jobs = "" if first is None or first.total is None else str(first.total)
        clock = "" if findings is None or findings.clock.most is None else f"{findings.clock.most:+.1f} s"
        row = (target.project, target.workspace, target.credentials, one.answer, jobs, clock)
        shown.add_row(*(Text(secrets.masked(cell)) for cell in row))
    return shown


def paragraphs(told: Iterable[Told], secrets: Secrets) -> list[str]:
    """Give a paragraph for each target: why it fails, and what was found out about it."""
    return [secrets.masked("\n".join(_paragraph(one))) for one in told]


def _paragraph(told: Told) -> list[str]:
    target, findings, error = told.contact.target, told.findings, told.contact.error
    verb = "works" if told.works else "fails"
    head = f"{target.project}, workspace {target.workspace} (credentials {target.credentials}) {verb}:"
    lines = {} if error is None else _failure(error)
    if told.other_path is not None:
        lines["hint"] = f"{told.other_path} answers: set it as the project's path in the configuration"
    if findings is not None and error is None:
        lines |= _api_lines(findings)
    if findings is not None:
        lines |= _row_lines(findings, told.problems)
    return [head, *(f"  {name:<{_NAME_CHARS}}{text}" for name, text in (lines | _cost(told.contact)).items())]


def _failure(error: PollError) -> dict[str, str]:
    if not isinstance(error, ApiError):
        return {"reason": error.reason, "message": str(error)}
    facts = {
        "reason": error.reason,
        "message": error.message,
        "status": str(error.status or ""),
        "code": error.code,
        "url": error.url,
        "request id": error.request_id,
    }
    return {name: value for name, value in facts.items() if value}


def _api_lines(findings: Findings) -> dict[str, str]:
    filters = findings.filters
    flags = ("start_time", "id", "workspace_id", "offset")
    return {
        "by status": _array(filters.statuses),
        "by type": _array(filters.job_types),
        "filters": ", ".join(f"{name}: {getattr(filters, name)}" for name in flags),
        "polls": _polls(findings),
        "page": _page(findings.page),
        "order": " and ".join(findings.order) or "unknown",
        "totals": _totals(findings.totals),
        "clock": _clock(findings.clock),
    }


def _row_lines(findings: Findings, problems: Mapping[str, int]) -> dict[str, str]:
    return {
        "types": _words(findings.job_types),
        "statuses": _words(findings.statuses),
        "codes": ", ".join(f"{one.code} ({one.rows})" for one in findings.codes) or "none",
        "specs": ", ".join(f"{one.spec} ({one.rows})" for one in findings.resource_specs) or "none",
        "rows": _rows(findings.rows, problems),
        "fields": _fields(findings.rows.fields) + _others(findings.rows),
        "answers": _body(findings),
    }


def _array(found: ArrayFilter) -> str:
    return (
        f"repeated keys: {found.repeated_keys}, comma: {found.comma}, one value: {found.one_value}; "
        f"polls use: {found.used}"
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
    then = "; polls fail, as these are too many" if rows.too_many_unreadable else ""
    return f"{rows.rows} came, {sum(problems.values())} cannot be read: {named}{more}{then}"


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


def _cost(contact: Contact) -> dict[str, str]:
    cost = contact.cost
    rest = "" if cost.complete else "; not everything was asked"
    return {
        "cost": f"{cost.requests} requests in {cost.seconds:g} s, one takes {cost.median:g} s, "
        f"{cost.longest:g} s at most{rest}"
    }


def as_json(told: Iterable[Told], secrets: Secrets) -> list[dict[str, Any]]:
    """Give the targets as JSON values, with their names and the errors' words; secrets are masked."""
    return [_masked(_target(one), secrets) for one in told]


def _target(told: Told) -> dict[str, Any]:
    target, error = told.contact.target, told.contact.error
    return {
        "project": target.project,
        "workspace": target.workspace,
        "credentials": target.credentials,
        "works": told.works,
        "error": None if error is None else _error(error),
        "other_path": told.other_path,
        "findings": msgspec.to_builtins(told.findings),
        "unreadable": dict(told.problems),
        "cost": msgspec.to_builtins(told.contact.cost),
    }


def _error(error: PollError) -> dict[str, Any]:
    return {
        "reason": error.reason,
        "message": error.message if isinstance(error, ApiError) else str(error),
        "status": getattr(error, "status", 0),
        "code": getattr(error, "code", ""),
        "url": getattr(error, "url", ""),
        "request_id": getattr(error, "request_id", ""),
    }


def _masked(value: Any, secrets: Secrets) -> Any:
    """Mask every text in a JSON value."""
    if isinstance(value, str):
        return secrets.masked(value)
    if isinstance(value, dict):
        return {secrets.masked(key): _masked(one, secrets) for key, one in value.items()}
    return [_masked(one, secrets) for one in value] if isinstance(value, list | tuple) else value
