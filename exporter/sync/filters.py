"""
Which filters of the list the server honours: pure.

Nothing documents how arrays are sent, nor promises that a filter is honoured at all. So answers are compared
with what was asked, before anything is counted; a filter that does not do as it says is given up for a way
that does, down to listing everything, and tried again after a day.

    statuses     array: repeated keys -> comma: one key, values joined -> single: a listing each -> none
    job_types    the same; `none` is harmless, since rows of other types are dropped here
    start_time   works or not
    id           works or not
    workspace    works or not; rows of other workspaces are dropped here
    totals       no filter, but given up likewise where page_info.total does not come
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from exporter.model import Job
from exporter.octopus.wire import MAX_ARRAY_VALUES, ListQuery

ArrayStyle = Literal["array", "comma", "single", "none"]
FilterName = Literal["statuses", "job_types", "start_time", "id", "workspace", "totals"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)
_STYLES: tuple[ArrayStyle, ...] = get_args(ArrayStyle)

RETRY_AFTER_MS = 86_400_000
# A server that compares times by the second keeps its word.
_ROUNDING_MS = 1_000


class FilterFailed(Exception):
    """An answer shows that a filter is not honoured as it was sent."""

    def __init__(self, name: FilterName) -> None:
        super().__init__(name)
        self.name: FilterName = name


@dataclass(frozen=True, slots=True)
class Filters:
    """How each filter is sent. Units: `since_ms`, by our clock, is when the first was given up."""

    statuses: ArrayStyle = "array"
    job_types: ArrayStyle = "array"
    start_time: bool = True
    id: bool = True
    workspace: bool = True
    totals: bool = True
    since_ms: int | None = None

    def without(self, name: FilterName, now_ms: int) -> Filters:
        """Give up a filter the way it is sent now, for the next one that may work."""
        since_ms = now_ms if self.since_ms is None else self.since_ms
        if name == "statuses":
            return replace(self, statuses=_next(self.statuses), since_ms=since_ms)
        if name == "job_types":
            return replace(self, job_types=_next(self.job_types), since_ms=since_ms)
        return replace(self, since_ms=since_ms, **{name: False})  # type: ignore[arg-type]  # the others are flags

    @property
    def can_tell_changes(self) -> bool:
        """Tell whether a poll that asks for changes only can be complete, and can be seen to be."""
        return (
            self.totals
            and self.start_time
            and self.workspace
            and "none" not in (self.statuses, self.job_types)
        )

    def tried_again(self, now_ms: int) -> Filters:
        """Forget what did not work once that is long ago: servers are mended."""
        stale = self.since_ms is not None and has_passed(RETRY_AFTER_MS, self.since_ms, now_ms)
        return Filters() if stale else self

    def works(self, name: FilterName) -> bool:
        """Tell whether a filter is honoured as documented."""
        return getattr(self, name) in ("array", True)


def has_passed(interval_ms: int, since_ms: int, now_ms: int) -> bool:
    """
    Tell whether a time has gone by on our own clock. So it has where the beginning lies as far ahead: that
    was remembered by a clock that has been put right since.
    """
    return abs(now_ms - since_ms) >= interval_ms


def _next(style: ArrayStyle) -> ArrayStyle:
    return _STYLES[min(_STYLES.index(style) + 1, len(_STYLES) - 1)]


def value_batches(style: ArrayStyle, wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """Give the values of an array filter for each listing that it takes to cover `wanted`."""
    if style == "none" or not wanted:
        return [()]
    if style == "single":
        return [(value,) for value in wanted]
    batches = [tuple(wanted[at : at + MAX_ARRAY_VALUES]) for at in range(0, len(wanted), MAX_ARRAY_VALUES)]
    return [(",".join(batch),) for batch in batches] if style == "comma" else batches


def unapplied_filter(query: ListQuery, jobs: Sequence[Job]) -> FilterName | None:
    """
    Name a filter that an answer's rows do not match.

    Of a status it takes most rows: a few that do not match are jobs that changed while they were listed, and
    do no harm. What never changes of a job shows it by any row: otherwise the server's totals, of which the
    others are a part, would differ from the ledger for ever.
    """
    statuses = {status for value in query.statuses for status in value.split(",")}
    if statuses and _most(job.status not in statuses for job in jobs):
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
    Name the filter to give up where the server refuses a request; None if it has none to blame.

    Shape: `status` is 400 where the request is called malformed, 404 where what it names is said not to be.
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


def _most(mismatches: Iterable[bool]) -> bool:
    found = list(mismatches)
    return 2 * sum(found) > len(found)
