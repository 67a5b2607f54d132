"""Displays what `check --online` found: a table of the targets, a paragraph for each, or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from exporter.commands.check.findings import (
    ClockFindings,
    Findings,
    Kind,
    RowFindings,
    SeenType,
    TotalFindings,
)
from exporter.commands.check.prober import ProbedTarget
from exporter.commands.check.probes import pages_of
from exporter.commands.check.target_findings import findings_of, row_problems
from exporter.errors import ApiError, PollError
from exporter.ledger.opening import LedgerFinding
from exporter.masking import Secrets

_NAME_CHARS = 12
_MOST_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class CheckedTarget:
    """A probed target. `findings` is None without rows; `problems` counts unreadable rows by defect."""

    probed: ProbedTarget
    findings: Findings | None
    problems: Mapping[str, int]

    @classmethod
    def of(cls, probed: ProbedTarget) -> CheckedTarget:
        has_rows = probed.error is None or any(result.raw is not None for result in probed.results)
        findings = findings_of(probed.results, probed.target.workspace_id) if has_rows else None
        return cls(probed, findings, row_problems(probed.results))

    @property
    def works(self) -> bool:
        """Whether polls of this target succeed."""
        has_odd_rows = self.findings is not None and self.findings.rows.too_many_unreadable
        return self.probed.error is None and not has_odd_rows

    @property
    def other_path(self) -> str | None:
        """The documented path that works where the target's own does not; None where there is none."""
        found = pages_of(self.probed.results, "path")
        return found[0].probe.path if found else None

    @property
    def answer(self) -> str:
        """The cell of the table that says whether the target works."""
        if self.probed.error is not None:
            return f"fails: {self.probed.error.reason}"
        return "works" if self.works else "fails: rows"


def as_table(checked: Iterable[CheckedTarget], secrets: Secrets) -> Table:
    table = Table(title="What the API says")
    for name in ("project", "workspace", "credentials", "answer", "jobs", "clock"):
        # Folded, because an id that is cut off cannot be copied.
        table.add_column(name, overflow="fold")
    for one in checked:
        target, findings = one.probed.target, one.findings
        first = next((result.page for result in one.probed.results if result.page is not None), None)
        jobs = "" if first is None or first.total is None else str(first.total)
        clock = "" if findings is None or findings.clock.most is None else f"{findings.clock.most:+.1f} s"
        row = (target.project, target.workspace, target.credentials, one.answer, jobs, clock)
        table.add_row(*(Text(secrets.masked(cell)) for cell in row))
    return table


def ledger_table(found: Iterable[LedgerFinding], secrets: Secrets) -> Table:
    table = Table(title="What the ledger's database says")
    for name in ("what", "answer", "found"):
        table.add_column(name, overflow="fold")
    for one in found:
        row = (one.what, "works" if one.works else "fails", one.text)
        table.add_row(*(Text(secrets.masked(cell)) for cell in row))
    return table


def ledger_as_json(found: Iterable[LedgerFinding], secrets: Secrets) -> list[dict[str, Any]]:
    return [{"what": one.what, "works": one.works, "found": secrets.masked(one.text)} for one in found]


def as_paragraph(checked: CheckedTarget, secrets: Secrets) -> str:
    """Write why a target fails, what was found about it and how many requests that took."""
    target, findings, error = checked.probed.target, checked.findings, checked.probed.error
    verb = "works" if checked.works else "fails"
    head = f"{target.key.text} (credentials {target.credentials}) {verb}:"
    lines: dict[str, str] = {}
    if error is not None:
        facts = {name.replace("_", " "): str(value or "") for name, value in _error_fields(error).items()}
        lines |= {name: value for name, value in facts.items() if value}
    if checked.other_path is not None:
        lines["hint"] = f"{checked.other_path} answers: set it as the project's path in the configuration"
    if findings is not None and error is None:
        lines |= _api_lines(findings)
    if findings is not None:
        lines |= _row_lines(findings, checked.problems)
    cost = checked.probed.cost
    rest = "" if cost.complete else "; not everything was asked"
    lines["cost"] = (
        f"{cost.requests} requests in {cost.seconds:g} s, one takes {cost.median:g} s, "
        f"{cost.longest:g} s at most{rest}"
    )
    text = "\n".join([head, *(f"  {name:<{_NAME_CHARS}}{text}" for name, text in lines.items())])
    return secrets.masked(text)


def _api_lines(findings: Findings) -> dict[str, str]:
    filters, page = findings.filters, findings.page
    flags = ("start_time", "id", "workspace_id", "offset")
    by_value = {
        name: f"repeated keys: {one.repeated_keys}, comma: {one.comma}, one value: {one.one_value}; "
        f"polls use: {one.used}"
        for name, one in (("by status", filters.statuses), ("by type", filters.job_types))
    }
    repeated = f"; {page.repeated_rows} rows of a page come again on the next" if page.repeated_rows else ""
    return {
        **by_value,
        "filters": ", ".join(f"{name}: {getattr(filters, name)}" for name in flags),
        "polls": "can ask for what changed"
        if filters.changes_only
        else "have to list everything each time: a filter or the total does not do as documented",
        "page": f"{page.longest} rows {'at most' if page.is_largest else 'came'}; "
        f"a larger limit: {page.above}{repeated}",
        "order": " and ".join(findings.order) or "unknown",
        "totals": _totals(findings.totals),
        "clock": _clock(findings.clock),
    }


def _row_lines(findings: Findings, problems: Mapping[str, int]) -> dict[str, str]:
    empty = ", ".join(findings.body.empty_list) or "none came"
    return {
        "types": _types(findings.job_types),
        "statuses": _types(findings.statuses),
        "codes": ", ".join(f"{one.code} ({one.rows})" for one in findings.codes) or "none",
        "specs": ", ".join(f"{one.spec} ({one.rows})" for one in findings.resource_specs) or "none",
        "rows": _rows(findings.rows, problems),
        "fields": _fields(findings.rows),
        "answers": f"JSON: {findings.body.json}; list where there are no rows: {empty}",
    }


def _totals(totals: TotalFindings) -> str:
    detail = "" if totals.rows_off is None else f" by {abs(totals.rows_off)}"
    detail += "" if totals.cap is None else f" at {totals.cap}"
    odd = [form for form in totals.forms if form != "number"]
    return totals.verdict + detail + (f" (written as {', '.join(odd)})" if odd else "")


def _clock(clock: ClockFindings) -> str:
    if clock.least is None or clock.most is None:
        server = f"current_time: {'missing' if clock.current_time == 'missing' else 'is no time'}"
    elif clock.least == clock.most:
        server = f"current_time {clock.most:+.1f} s against ours"
    else:
        server = f"current_time {clock.least:+.1f} to {clock.most:+.1f} s against ours"
    newest = "no row" if clock.newest_row is None else f"newest row {clock.newest_row:+.1f} s against ours"
    return f"{server}; {newest}; polls go by a clock {clock.polls_go_by:+.1f} s against ours"


def _types(seen: Iterable[SeenType]) -> str:
    texts = (f"{one.name} ({one.rows}{'' if one.documented else ', undocumented'})" for one in seen)
    return ", ".join(texts) or "none"


def _rows(rows: RowFindings, problems: Mapping[str, int]) -> str:
    if not problems:
        return f"{rows.rows} read"
    worst = sorted(problems.items(), key=lambda one: -one[1])[:_MOST_PROBLEMS]
    named = "; ".join(f"{problem} ({times})" for problem, times in worst)
    more = f"; and {len(problems) - len(worst)} more" if len(problems) > len(worst) else ""
    effect = "; polls fail, as these are too many" if rows.too_many_unreadable else ""
    return f"{rows.rows} came, {sum(problems.values())} cannot be read: {named}{more}{effect}"


def _fields(rows: RowFindings) -> str:
    """Name what each field holds besides the usual number or text."""
    texts = []
    for name, kinds in rows.fields.items():
        usual: tuple[Kind, ...] = ("number", "text")
        odd = [f"{kind} ({count})" for kind, count in kinds.items() if kind not in usual]
        texts += [f"{name}: {', '.join(odd)}"] if odd else []
    others = f"; undocumented: {', '.join(rows.other_fields)}" if rows.other_fields else ""
    early = f"; {rows.durations_in_flight} jobs in flight have a running_duration"
    named = "nothing to compare with" if rows.workspace_ids == "unknown" else rows.workspace_ids
    return (
        ("; ".join(texts) or "all there")
        + others
        + (early if rows.durations_in_flight else "")
        + f"; workspace_id: {named}"
    )


def as_json(checked: Iterable[CheckedTarget], secrets: Secrets) -> list[dict[str, Any]]:
    """Give the targets as JSON values, with their names and the messages of errors; secrets are masked."""
    return [
        _masked(
            {
                "project": one.probed.target.project,
                "workspace": one.probed.target.workspace,
                "credentials": one.probed.target.credentials,
                "works": one.works,
                "error": None if one.probed.error is None else _error_fields(one.probed.error),
                "other_path": one.other_path,
                "findings": msgspec.to_builtins(one.findings),
                "unreadable": dict(one.problems),
                "cost": msgspec.to_builtins(one.probed.cost),
            },
            secrets,
        )
        for one in checked
    ]


def _error_fields(error: PollError) -> dict[str, Any]:
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
