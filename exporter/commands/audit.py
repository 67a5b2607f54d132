"""`audit`: does the ledger hold as many jobs in each status as the API says there are?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from rich.table import Table

from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.errors import ApiError, InternalFault, PollError, StartError
from exporter.ledger.sqlite import SqliteLedger
from exporter.masking import Secrets
from exporter.model import STATUSES, SetApart, Target
from exporter.octopus.client import OctopusClient, RequestCounter
from exporter.octopus.messages import NullObserver
from exporter.octopus.transport import open_session
from exporter.pollers import poll_rules
from exporter.state_log import FaultLog
from exporter.sync.ledger import Ledger
from exporter.sync.planner import (
    StatusTotals,
    audited_statuses,
    exclude_statusless,
    status_filters,
    sum_totals,
)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """
    One target and status.

    Shape: `api` is the API's total less the rows set apart, None where it gives no totals; `ledger` is None
    where the target was never polled; `error` says why nothing could be asked. Of the target's
    `rows_unreadable`, `set_apart` has some.
    """

    target: Target
    status: str
    api: int | None = None
    ledger: int | None = None
    error: PollError | None = None
    rows_unreadable: int = 0
    set_apart: tuple[SetApart, ...] = ()

    @property
    def differs(self) -> bool:
        return self.error is not None or self.ledger is None or self.api not in (None, self.ledger)


async def audit(config: Config, secrets: Secrets) -> list[AuditLine]:
    """
    Compare every target, all at once. The exporter may be running meanwhile.

    Raises: StartError (no ledger to read).
    """
    path = config.ledger.url.path
    if path is None:
        raise StartError(f"ledger {config.ledger.url}: not a file, so there is nothing to compare")
    ledger = await SqliteLedger.open_to_read(path)
    try:
        async with open_session() as session:
            access = ClientFactory(config, session, NullObserver(), secrets)
            lines = await asyncio.gather(
                *(_audit(config, ledger, access.client(target), target) for target in config.targets())
            )
    finally:
        await ledger.close()
    return [line for some in lines for line in some]


async def _audit(config: Config, ledger: Ledger, client: OctopusClient, target: Target) -> list[AuditLine]:
    """Compare one target; what is wrong with it is a line of its own."""
    try:
        return await _compare(config, ledger, client, target)
    except PollError as error:
        return [AuditLine(target, "", error=error)]
    except Exception as exc:
        FaultLog(structlog.get_logger(), project=target.project, workspace=target.workspace).log(
            "audit failed", exc
        )
        return [AuditLine(target, "", error=InternalFault(exc))]


async def _compare(config: Config, ledger: Ledger, client: OctopusClient, target: Target) -> list[AuditLine]:
    totals = await ledger.restore(target, poll_rules(config).counting)
    if totals is None:
        return [AuditLine(target, "")]
    summary = await ledger.summary(target)
    if not summary.filters.can_tell_changes:
        return [AuditLine(target, status, None, totals.in_status(status)) for status in STATUSES]
    set_apart = await ledger.set_apart_by_status(target)
    lines: list[AuditLine] = []
    for status in audited_statuses(totals, summary.horizon_ms, config.metrics.max_statuses):
        listings = status_filters(target, summary.filters, status, summary.horizon_ms)
        try:
            pages = [
                await client.list_page(target, listing.page(0, 1), RequestCounter()) for listing in listings
            ]
        except ApiError as error:
            return [*lines, AuditLine(target, status, error=error)]
        api = sum_totals([page.total for page in pages])
        counted = None if api is None else api - set_apart.get(status, 0)
        lines.append(AuditLine(target, status, counted, totals.in_status(status)))
    known = {line.status: StatusTotals(line.api, line.ledger or 0) for line in lines if line.api is not None}
    counted_api = {s: one.api for s, one in exclude_statusless(known, set_apart.get("", 0)).items()}
    return [
        replace(
            line,
            api=counted_api.get(line.status),
            rows_unreadable=totals.rows_unreadable,
            set_apart=totals.set_apart,
        )
        for line in lines
    ]


def table(lines: Sequence[AuditLine], secrets: Secrets) -> Table:
    """Lay the comparison out for people."""
    shown = Table(
        "project", "workspace", "status", "API", "ledger", "difference", title="The ledger, audited"
    )
    for line in lines:
        shown.add_row(
            line.target.project,
            line.target.workspace,
            line.status,
            "?" if line.api is None else str(line.api),
            _recorded(line),
            secrets.masked(_difference(line)),
        )
    return shown


def _recorded(line: AuditLine) -> str:
    if line.ledger is not None:
        return str(line.ledger)
    return "never polled" if line.error is None else "?"


def unreadable_rows(lines: Sequence[AuditLine], secrets: Secrets) -> list[str]:
    """Name the rows set apart, which are in neither column of the table: a line each, by target."""
    named: list[str] = []
    for line in {line.target.key: line for line in lines if line.rows_unreadable}.values():
        where = f"{line.target.project}, workspace {line.target.workspace}"
        named.append(f"{where}: {line.rows_unreadable} rows cannot be read and are counted on neither side")
        named += [secrets.masked(f"  {_name(row)}: {row.problem}") for row in line.set_apart]
        if (more := line.rows_unreadable - len(line.set_apart)) > 0:
            named.append(f"  and {more} more")
    return named


def _name(row: SetApart) -> str:
    name = "a row without an id" if row.job_id is None else f"job {row.job_id}"
    return f"{name}, {row.status!r}" if row.status else name


def _difference(line: AuditLine) -> str:
    if line.error is not None:
        return f"{line.error.reason}: {line.error}"
    if line.api is None or line.ledger is None:
        return "unknown"
    return f"{line.api - line.ledger:+d}" if line.differs else ""
