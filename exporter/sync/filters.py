"""
Which filters of the list the server honours: pure.

The API's documentation does not say how arrays are sent, nor promise that a filter is honoured at all. So
answers are compared with what was asked, before anything is counted. A filter that fails is *downgraded* to
the next way to send it, in the end to listing everything, and tried again after a day.

    statuses     array: repeated keys -> comma: one key, values joined -> single: a listing for each -> none
    job_types    the same; `none` is harmless, since rows of other types are dropped here
    start_time   works or not
    id           works or not
    workspace    works or not; rows of other workspaces are dropped here
    totals       no filter, but downgraded in the same way where page_info.total does not come
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from exporter.model import Job, Target
from exporter.octopus.wire import MAX_ARRAY_VALUES, ListQuery

ArrayStyle = Literal["array", "comma", "single", "none"]
FilterName = Literal["statuses", "job_types", "start_time", "id", "workspace", "totals"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)
_STYLES: tuple[ArrayStyle, ...] = get_args(ArrayStyle)

RETRY_AFTER_MS = 86_400_000
# A server may compare creation times by the second.
_ROUNDING_MS = 1_000


class FilterFailed(Exception):
    """An answer shows that a filter is not honoured as it was sent."""

    def __init__(self, name: FilterName) -> None:
        super().__init__(name)
        self.name: FilterName = name


@dataclass(frozen=True, slots=True)
class Filters:
    """How each filter is sent. Units: `since_ms`, by our clock, is when the first was downgraded."""

    statuses: ArrayStyle = "array"
    job_types: ArrayStyle = "array"
    start_time: bool = True
    id: bool = True
    workspace: bool = True
    totals: bool = True
    since_ms: int | None = None

    def downgrade_filter(self, name: FilterName, now_ms: int) -> Filters:
        """Send a filter in the next way that may work, or not at all after the last one."""
        since_ms = now_ms if self.since_ms is None else self.since_ms
        following: dict[str, Any] = {name: False}
        if name in ("statuses", "job_types"):
            following[name] = _STYLES[min(_STYLES.index(getattr(self, name)) + 1, len(_STYLES) - 1)]
        return replace(self, since_ms=since_ms, **following)

    @property
    def can_tell_changes(self) -> bool:
        """Tell whether a poll that asks for changes only can be complete, and can be shown to be."""
        return (
            self.totals
            and self.start_time
            and self.workspace
            and "none" not in (self.statuses, self.job_types)
        )

    def retried(self, now_ms: int) -> Filters:
        """Send every filter as documented again once a day has passed: the server may have been repaired."""
        stale = self.since_ms is not None and has_passed(RETRY_AFTER_MS, self.since_ms, now_ms)
        return Filters() if stale else self

    def works(self, name: FilterName) -> bool:
        """Tell whether a filter is honoured as documented."""
        return getattr(self, name) in ("array", True)


def has_passed(interval_ms: int, since_ms: int, now_ms: int) -> bool:
    """
    Tell whether an interval has passed on our own clock.

    It has also where `since_ms` lies that far in the future: the clock was ahead then, and has been
    corrected.
    """
    return abs(now_ms - since_ms) >= interval_ms


def value_batches(style: ArrayStyle, wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """Give the values that an array filter has in each of the listings that together cover `wanted`."""
    if style == "none" or not wanted:
        return [()]
    if style == "single":
        return [(value,) for value in wanted]
    batches = [tuple(wanted[at : at + MAX_ARRAY_VALUES]) for at in range(0, len(wanted), MAX_ARRAY_VALUES)]
    return [(",".join(batch),) for batch in batches] if style == "comma" else batches


def unapplied_filter(query: ListQuery, jobs: Sequence[Job]) -> FilterName | None:
    """
    Name a filter that an answer's rows do not match.

    For a status it takes most of the rows: jobs change while they are listed, and a few that do not match are
    harmless. A job's type and creation time never change, so one row that does not match them is enough. Such
    rows are part of the server's totals too, which would then differ from the ledger for ever.
    """
    statuses = {status for value in query.statuses for status in value.split(",")}
    if statuses and 2 * sum(job.status not in statuses for job in jobs) > len(jobs):
        return "statuses"
    start_ms = query.start_time_ms
    if start_ms is not None and any(job.created_ms < start_ms - _ROUNDING_MS for job in jobs):
        return "start_time"
    types = {kind for value in query.job_types for kind in value.split(",")}
    if types and any(job.job_type not in types for job in jobs):
        return "job_types"
    if query.job_id is not None and any(job.id != query.job_id for job in jobs):
        return "id"
    return None


def rejected_filter(query: ListQuery, status: int) -> FilterName | None:
    """
    Name the filter to downgrade where the server refuses a request; None if the query has none.

    Shape: `status` is 400 for a malformed request, 404 for one that names something unknown.
    """
    if query.job_id is not None and status in (400, 404):
        return "id"
    if status != 400:
        return None
    if query.statuses:
        return "statuses"
    if query.job_types:
        return "job_types"
    return None if query.start_time_ms is None else "start_time"


def wanted_rows(target: Target, jobs: Sequence[Job]) -> list[bool]:
    """Tell for each row whether it is the target's, in case the server has ignored a filter."""
    if not target.job_types and not has_foreign_workspace(target, jobs):
        return [True] * len(jobs)
    workspaces, types = {None, target.workspace_id}, frozenset(target.job_types)
    anywhere, any_type = target.workspace_id is None, not types
    return [
        (anywhere or job.workspace_id in workspaces) and (any_type or job.job_type in types) for job in jobs
    ]


def has_foreign_workspace(target: Target, jobs: Sequence[Job]) -> bool:
    """Tell whether a row names another workspace than the one that was asked for."""
    if target.workspace_id is None:
        return False
    return not {job.workspace_id for job in jobs} <= {None, target.workspace_id}
