"""What a status page is asked for, and the addresses of the other pages that it links to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import urlencode

from exporter.config import parse_duration
from exporter.runs import RunFilter
from exporter.web.run_question import MAX_LIMIT, job_id, since_ms
from exporter.web.status.language import Language, choose_language, known
from exporter.web.status.model import TargetStatus

FilterName = Literal["project", "workspace", "job_type", "status", "msg_code", "job_id"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)
# What a filter is called in an address: there, as at /api/v1/failures, it is the id.
_KEYS: Mapping[str, str] = {"job_id": "id"}
HOUR = "1h"
# A link to "all" says so: the API gives fewer unless it is told otherwise.
_MOST_EXPORTED = str(MAX_LIMIT)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """
    What a page is asked for: its language, whether the link itself says that, and the filters.

    Shape: project and workspace choose the targets of the whole page; the other filters choose failed runs.
    None is no filter, and `msg_code` "" asks for runs without a code. A job type also chooses rows of the
    tables of jobs. `since` is the beginning of the period as the link spells it, a duration or a time;
    `since_ms` is the same time. Without it the period is an hour, or all that is kept where a job is named.
    """

    language: Language
    says_language: bool = False
    project: str | None = None
    workspace: str | None = None
    job_type: str | None = None
    status: str | None = None
    msg_code: str | None = None
    job_id: str | None = None
    since: str | None = None
    since_ms: int | None = None

    def picks(self, target: TargetStatus) -> bool:
        return self.project in (None, target.project) and self.workspace in (None, target.workspace)

    @property
    def filters(self) -> dict[FilterName, str]:
        """The filters that are set, in the order of the page."""
        values = {name: getattr(self, name) for name in FILTERS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def chooses_all_targets(self) -> bool:
        return self.project is None and self.workspace is None

    @property
    def chooses_runs(self) -> bool:
        """Whether a filter other than the target is set."""
        return bool(self.filters.keys() - {"project", "workspace"})

    def link(self, target: TargetStatus | None) -> str:
        """Give the address of the page of a target, or of all; the period stays."""
        kept = PageRequest(self.language, self.says_language, since=self.since)
        if target is None:
            return kept.address
        return replace(kept, project=target.project, workspace=target.workspace).address

    def only(self, **filters: str | None) -> str:
        """Give the address of this page with these filters set, or removed (None)."""
        return replace(self, **filters).address  # type: ignore[arg-type]  # the names are those of fields

    def unfiltered(self) -> str:
        """Give the address of this page without a filter."""
        return self.link(None)

    def in_language(self, language: Language) -> str:
        """Give this page's address in a language."""
        return replace(self, language=language, says_language=True).address

    def export(self, form: Literal["json", "csv"], **filters: str) -> str:
        """Give the address of the runs behind this page, or behind a part of it, at /api/v1/failures."""
        chosen = {str(name): value for name, value in self.filters.items()} | filters
        if self.since_ms is not None:
            chosen["since"] = self.since or HOUR
        chosen["limit"] = _MOST_EXPORTED
        query = {_KEYS.get(name, name): value for name, value in chosen.items()}
        return "api/v1/failures?" + _query(query | ({"format": "csv"} if form == "csv" else {}))

    @property
    def which(self) -> RunFilter:
        """The failed runs that are asked for."""
        return RunFilter(
            project=self.project,
            workspace=self.workspace,
            job_type=self.job_type,
            status=self.status,
            msg_code=self.msg_code,
            job_id=None if self.job_id is None else int(self.job_id),
            since_ms=self.since_ms,
        )

    @property
    def period_seconds(self) -> float | None:
        """How long the period is; None where it has no beginning, or the link gives its time."""
        if self.since_ms is None:
            return None
        try:
            return parse_duration(self.since or HOUR)
        except ValueError:
            return None

    @property
    def address(self) -> str:
        query = {_KEYS.get(name, name): value for name, value in self.filters.items()}
        if self.since is not None:
            query["since"] = self.since
        if self.says_language:
            query["lang"] = self.language
        return "?" + _query(query) if query else "."


def read_question(
    query: Mapping[str, str], remembered: str, accept_language: str, now_ms: int
) -> PageRequest:
    """
    Read what a link asks for, at this time.

    Shape: `remembered` is the language chosen before, `accept_language` the browser's header. A filter
    without a value is none, but for `msg_code`, which then asks for runs without a code. What is no filter of
    ours is passed over. Raises: ValueError, with a line that says what is wrong and what is expected.
    """
    wanted, since, number = query.get("lang", ""), query.get("since") or None, query.get("id") or None
    return PageRequest(
        choose_language(wanted, remembered, accept_language),
        says_language=known(wanted) is not None,
        project=query.get("project") or None,
        workspace=query.get("workspace") or None,
        job_type=query.get("job_type") or None,
        status=query.get("status") or None,
        msg_code=query.get("msg_code"),
        job_id=None if number is None else str(_read("id", job_id, number)),
        since=since,
        since_ms=None
        if number and not since
        else _read("since", lambda text: since_ms(text, now_ms), since or HOUR),
    )


def _read(name: str, reading: Callable[[str], int], text: str) -> int:
    try:
        return reading(text)
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}") from None


def _query(given: Mapping[str, str]) -> str:
    return urlencode(given, errors="replace")
