"""`check`: does the configuration hold, and (online) does the API answer every target?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rich.table import Table

from exporter.access import Access
from exporter.config import Config
from exporter.errors import ApiError, ConfigError
from exporter.masking import Secrets
from exporter.model import Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.observer import Silence
from exporter.octopus.transport import open_session
from exporter.octopus.wire import ListQuery
from exporter.web.toolkit import WebConfiguration


class _Skew(Silence):
    """Remembers nothing but the clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def clock_skew(self, project: str, seconds: float) -> None:
        self.seconds[project] = seconds


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one page of a target told.

    Shape: `jobs` is the API's total (None if it gives none), `skew_seconds` the server's clock less ours;
    `error` says why there is neither; `problem` is what is wrong with the row that came, "" if nothing is.
    """

    target: Target
    jobs: int | None = None
    skew_seconds: float | None = None
    error: ApiError | None = None
    problem: str = ""

    @property
    def answer(self) -> str:
        """Say in words how the API answered."""
        if self.error is not None:
            return f"{self.error.reason}: {self.error}"
        return f"works, but its first row cannot be read: {self.problem}" if self.problem else "works"


def web_problems(config: Config) -> list[str]:
    """Tell what is wrong with the web configuration file and those it names; nothing where there is none."""
    try:
        if config.web.config_file is not None:
            WebConfiguration.load(config.web.config_file)
    except ConfigError as exc:
        return exc.problems
    return []


async def probe(config: Config, secrets: Secrets) -> list[Finding]:
    """Get a token and read one page for every target, all at once."""
    skew = _Skew()
    async with open_session() as session:
        access = Access(config, session, skew, secrets)
        return await asyncio.gather(*(_probe(access, target, skew) for target in config.targets()))


async def _probe(access: Access, target: Target, skew: _Skew) -> Finding:
    query = ListQuery(job_types=target.job_types[:20], limit=1)
    try:
        page = await access.client(target).list_page(target, query, RequestCounter())
    except ApiError as error:
        return Finding(target, error=error)
    problem = page.set_apart[0].problem if page.set_apart else ""
    return Finding(target, page.total, skew.seconds.get(target.project), problem=problem)


def table(findings: list[Finding], secrets: Secrets) -> Table:
    """Lay the findings out for people."""
    shown = Table("project", "workspace", "credentials", "answer", "jobs", "clock", title="What the API says")
    for finding in findings:
        target = finding.target
        shown.add_row(
            target.project,
            target.workspace,
            target.credentials,
            secrets.masked(finding.answer),
            "" if finding.jobs is None else str(finding.jobs),
            "" if finding.skew_seconds is None else f"{finding.skew_seconds:+.1f} s",
        )
    return shown
