"""The status page: a Status as HTML, in one of the languages."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import get_args
from urllib.parse import quote

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.config import JobUrl, parse_duration
from exporter.web.status import overview as layout
from exporter.web.status.failures import show, spike, usual_number
from exporter.web.status.headline import headlines
from exporter.web.status.language import Language
from exporter.web.status.model import Status, TargetStatus
from exporter.web.status.overview import Severity
from exporter.web.status.page_request import PageRequest
from exporter.web.status.run_queries import FailuresRead
from exporter.web.status.wording import Wording, excerpt, iso, number, size, utc

STATIC = Path(__file__).parent / "static"
REFRESH_SECONDS = 5
# A page of hundreds of targets is more work, to write and to show.
_LARGE, _LARGE_REFRESH_SECONDS = 50, 15

# Outlines of 16 by 16: what a colour says is said by a form and a word as well.
_ICONS: dict[Severity, str] = {
    "bad": "M5 1h6l4 4v6l-4 4H5l-4-4V5zM7.1 4v5h1.8V4zM7.1 10.2v1.8h1.8v-1.8z",
    "warn": "M8 1l7.5 14H.5zM7.1 6v4.5h1.8V6zM7.1 11.6v1.8h1.8v-1.8z",
    "busy": "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM7.1 4v4.6l3.3 2 .9-1.5-2.4-1.4V4z",
    "good": "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM6.9 11.2L3.6 8l1.3-1.3 2 2 4.2-4.3 1.3 1.3z",
}


class StatusPage:
    """The compiled template. `render` is pure and may run in any thread."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("exporter.web.status"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "anchor": _anchor,
            "excerpt": excerpt,
            "iso": iso,
            "number": number,
            "seconds": parse_duration,
            "size": size,
            "usual": usual_number,
            "utc": utc,
            "yaml": _yaml,
        }
        environment.globals |= {
            "codes": layout.codes,
            "in_flight": layout.in_flight,
            "job_table": layout.job_table,
            "of_type": layout.of_type,
            "oldest_of": layout.oldest_of,
            "severities": layout.SEVERITIES,
            "icons": _ICONS,
            "edition": _edition(),
        }
        self._template = environment.get_template("status.html.jinja")
        self._wordings = {language: Wording(language) for language in get_args(Language)}

    def render(
        self, status: Status, question: PageRequest, failures: FailuresRead, job_url: JobUrl | None = None
    ) -> str | None:
        """
        Write the page out; None where the target asked for is not there.

        Shape: `failures` are what was read of failed runs, or why nothing was.
        """
        targets = [target for target in status.targets if question.picks(target)]
        if not targets and not question.chooses_all_targets:
            return None
        t = self._wordings[question.language]
        overview = layout.overview(status, targets)
        names = {(target.project, target.workspace) for target in targets}
        hours = [hour for hour in failures.hours if (hour.target.project, hour.target.workspace) in names]
        found = spike(hours)
        return self._template.render(
            status=status,
            overview=overview,
            headlines=headlines(overview.verdict, found, t, jobs_known=failures.problem is None),
            spike=found,
            failures=failures,
            shown=show(failures.chosen),
            hours={(hour.target.project, hour.target.workspace): hour for hour in hours},
            question=question,
            job_url=job_url,
            refresh_seconds=REFRESH_SECONDS if len(targets) < _LARGE else _LARGE_REFRESH_SECONDS,
            t=t,
        )


def _anchor(target: TargetStatus) -> str:
    """Give an id that stays with the target from one page to the next."""
    return "target-" + "/".join(
        quote(name, "", errors="replace") for name in (target.project, target.workspace)
    )


def _edition() -> str:
    """Tell the style and the script of this version from those a browser may have kept."""
    files = sorted(path for path in STATIC.iterdir() if path.is_file())
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _yaml(value: object) -> str:
    dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return dumped
