"""`audit`: does the ledger hold as many jobs in each status as the API says there are?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog
from rich.table import Table

from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.errors import ApiError, InternalFault, PollError
from exporter.ledger.opening import open_ledger_to_read
from exporter.masking import Secrets
from exporter.model import STATUSES, SetApart, Target
from exporter.octopus.client import OctopusClient, RequestCounter
from exporter.octopus.messages import NullObserver
from exporter.octopus.transport import open_session
from exporter.pollers import poll_rules
from exporter.state_log import FaultLog
from exporter.sync import planner
from exporter.sync.ledger import Ledger
from exporter.sync.planner import StatusTotals


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
    """Compare all targets at once; the exporter may be running. Raises: StartError (no ledger to read)."""
    ledger = await open_ledger_to_read(config.ledger)
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
    """Compare one target. A failure becomes a line of the table, so that the other targets are compared."""
    try:
        return await _compare(config, ledger, client, target)
    except PollError as error:
        return [AuditLine(target, "", error=error)]
    except Exception as exc:
        faults = FaultLog(structlog.get_logger(), project=target.project, workspace=target.workspace)
        faults.log("audit failed", exc)
        return [AuditLine(target, "", error=InternalFault(exc))]


async def _compare(config: Config, ledger: Ledger, client: OctopusClient, target: Target) -> list[AuditLine]:
    totals = await ledger.restore(target, poll_rules(config).counting)
    if totals is None:
        return [AuditLine(target, "")]
    state = await ledger.summary(target)
    # Where filters do not work, the API's totals are not by status: only the ledger's side can be shown.
    if not state.filters.can_tell_changes:
        return [AuditLine(target, status, None, totals.in_status(status)) for status in STATUSES]
    set_apart = await ledger.set_apart_by_status(target)
    lines: list[AuditLine] = []
    for status in planner.audited_statuses(totals, state.horizon_ms, config.metrics.max_statuses):
        filters = planner.status_filters(target, state.filters, status, state.horizon_ms)
        try:
            # One row each: only the total is of interest.
            pages = [await client.list_page(target, one.page(0, 1), RequestCounter()) for one in filters]
        except ApiError as error:
            return [*lines, AuditLine(target, status, error=error)]
        total = planner.sum_totals([page.total for page in pages])
        # The API counts the rows that cannot be read. The ledger does not have them.
        api = None if total is None else total - set_apart.get(status, 0)
        lines.append(AuditLine(target, status, api, totals.in_status(status)))
    # The API counts a row without a readable status in one of its totals, and does not say in which.
    known = {line.status: StatusTotals(line.api, line.ledger or 0) for line in lines if line.api is not None}
    api_totals = {
        status: one.api for status, one in planner.exclude_statusless(known, set_apart.get("", 0)).items()
    }
    count, rows = totals.rows_unreadable, totals.set_apart
    return [
        replace(line, api=api_totals.get(line.status), rows_unreadable=count, set_apart=rows)
        for line in lines
    ]


def table(lines: Sequence[AuditLine], secrets: Secrets) -> Table:
    columns = ("project", "workspace", "status", "API", "ledger", "difference")
    shown = Table(*columns, title="The ledger, audited")
    for line in lines:
        if line.error is not None:
            difference = f"{line.error.reason}: {line.error}"
        elif line.api is None or line.ledger is None:
            difference = "unknown"
        else:
            difference = f"{line.api - line.ledger:+d}" if line.differs else ""
        api = "?" if line.api is None else str(line.api)
        never = "never polled" if line.error is None else "?"
        ledger = never if line.ledger is None else str(line.ledger)
        target = line.target
        shown.add_row(target.project, target.workspace, line.status, api, ledger, secrets.masked(difference))
    return shown


def unreadable_rows(lines: Sequence[AuditLine], secrets: Secrets) -> list[str]:
    """Name the rows set apart, which are in neither column of the table: a line each, by target."""
    named: list[str] = []
    for line in {line.target.key: line for line in lines if line.rows_unreadable}.values():
        where = line.target.key.text
        named.append(f"{where}: {line.rows_unreadable} rows cannot be read and are counted on neither side")
        for row in line.set_apart:
            name = "a row without an id" if row.job_id is None else f"job {row.job_id}"
            name = f"{name}, {row.status!r}" if row.status else name
            named.append(secrets.masked(f"  {name}: {row.problem}"))
        if (more := line.rows_unreadable - len(line.set_apart)) > 0:
            named.append(f"  and {more} more")
    return named
