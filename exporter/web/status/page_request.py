"""What a link to the status page asks for, and the links from it to other pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from exporter.config import parse_duration
from exporter.runs import RunFilter
from exporter.web.failures import MAX_LIMIT, ExportFormat
from exporter.web.negotiation import offers
from exporter.web.run_filter import ParameterReader
from exporter.web.status.model import TargetStatus
from exporter.web.status.wording import TAGS, Language

FILTERS = ("project", "workspace", "job_type", "status", "msg_code", "job_id")
# In a link, as at /api/v1/failures, the filter by job id is called "id".
_PARAMETERS: Mapping[str, str] = {"job_id": "id"}
HOUR = "1h"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """
    The language, the filters and the period of a link to the page.

    Shape: `sets_language` if the link itself names the language. Of `run_filter` the project and workspace
    select the targets of the whole page, a job type also selects rows of the tables of jobs, and the other
    filters select failed runs. `since` is the start of the period as the link writes it. Without it the
    period is the last hour, or everything if the link names a job.
    """

    language: Language
    sets_language: bool = False
    run_filter: RunFilter = field(default_factory=RunFilter)
    since: str | None = None

    @property
    def filters(self) -> dict[str, str]:
        """The filters that are set, in the order of the page."""
        values = {name: getattr(self.run_filter, name) for name in FILTERS}
        return {name: str(value) for name, value in values.items() if value is not None}

    @property
    def selects_runs(self) -> bool:
        """Whether a filter other than project and workspace is set."""
        return bool(self.filters.keys() - {"project", "workspace"})

    @property
    def period_seconds(self) -> float | None:
        """The length of the period; None if it has no start, or the link gives a time."""
        if self.run_filter.since_ms is None:
            return None
        try:
            return parse_duration(self.since or HOUR)
        except ValueError:
            return None

    @property
    def address(self) -> str:
        query = {_PARAMETERS.get(name, name): value for name, value in self.filters.items()}
        if self.since is not None:
            query["since"] = self.since
        if self.sets_language:
            query["lang"] = self.language
        # A link can bring lone surrogates, which urlencode would refuse.
        return "?" + urlencode(query, errors="replace") if query else "."

    def link(self, target: TargetStatus | None) -> str:
        """Return the address of the page of one target, or of all; the period is kept, filters are not."""
        only = RunFilter() if target is None else RunFilter(target.project, target.workspace)
        return replace(self, run_filter=only).address

    def only(self, **filters: str | None) -> str:
        """Return the address of this page with these filters set, or removed (None)."""
        changed = replace(self.run_filter, **filters)  # type: ignore[arg-type]  # the keys are field names
        return replace(self, run_filter=changed).address

    def over(self, since: str | None) -> str:
        return replace(self, since=since).address

    def in_language(self, language: Language) -> str:
        return replace(self, language=language, sets_language=True).address

    def export(self, form: ExportFormat, **filters: str) -> str:
        """Return the address at /api/v1/failures of the runs of this page, or of a part of it."""
        query = {_PARAMETERS.get(name, name): value for name, value in (self.filters | filters).items()}
        if self.run_filter.since_ms is not None:
            query["since"] = self.since or HOUR
        # Without a limit the API gives fewer.
        query["limit"] = str(MAX_LIMIT)
        if form == "csv":
            query["format"] = "csv"
        return "api/v1/failures?" + urlencode(query, errors="replace")


def read_page_request(
    query: Mapping[str, str], cookie: str, accept_language: str, now_ms: int
) -> PageRequest:
    """
    Read what a link asks for.

    Shape: `cookie` is the language that was chosen before. An empty filter is no filter, but an empty
    `msg_code` selects runs without a code. Unknown parameters are ignored: chat and mail programs add some to
    links. Raises: ValueError, with a line that says what is wrong and what is expected.
    """
    given = {name: [query[name]] for name in query if query[name] or name == "msg_code"}
    since = query.get("since") or None
    if since is None and "id" not in given:
        given["since"] = [HOUR]
    reader = ParameterReader(given)
    run_filter = reader.run_filter(now_ms, text=str, code=str)
    if reader.problems:
        raise ValueError(reader.problems[0])
    wanted = query.get("lang", "")
    return PageRequest(
        choose_language(wanted, cookie, accept_language),
        language_of(wanted) is not None,
        run_filter,
        since,
    )


def choose_language(wanted: str, cookie: str, accept_language: str) -> Language:
    """
    Choose the language of the link, else the one that was chosen before, else the one the browser prefers.

    Shape: each is "" if it is absent. Languages that the page does not have are ignored.
    """
    accepted = [offer for offer in offers(accept_language) if offer.weight > 0]
    accepted.sort(key=lambda offer: -offer.weight)
    for tag in (wanted, cookie, *(offer.name for offer in accepted)):
        language = language_of(tag)
        if language is not None:
            return language
    return "en"


def language_of(tag: str) -> Language | None:
    """Return the language of a tag such as zh-Hans-CN; None if the page does not have it."""
    primary = tag.strip().lower().partition("-")[0]
    return next((language for language in TAGS if language == primary), None)
