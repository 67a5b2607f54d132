"""The status page: a Status as HTML, in one of the languages."""

from __future__ import annotations

from hashlib import sha256
from typing import get_args
from urllib.parse import quote

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.config import JobUrl, parse_duration
from exporter.web.status import STATIC, overview
from exporter.web.status.failures import PageFailures, mean_number, shown_failures
from exporter.web.status.model import STATES, Status, TargetStatus
from exporter.web.status.overview import SEVERITIES, Severity
from exporter.web.status.page_request import PageRequest
from exporter.web.status.wording import Language, Wording, amount, excerpt, iso, number, size, utc

REFRESH_SECONDS = 5
# A page of hundreds of targets takes longer to render and to show.
_LARGE, _LARGE_REFRESH_SECONDS = 50, 15
# Only this many targets are shown with details, to keep the page small. The others link to their own page.
_WITH_DETAILS = 20

# SVG outlines of 16 by 16. A severity has a shape and a word too: not everybody can tell the colours apart.
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
            # A wrong name in the template must fail in the tests, not leave a gap on the page.
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "amount": amount,
            "anchor": _anchor,
            "excerpt": excerpt,
            "iso": iso,
            "number": number,
            "seconds": parse_duration,
            "size": size,
            "mean": mean_number,
            "utc": utc,
            "yaml": lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True),
        }
        files = sorted(path for path in STATIC.iterdir() if path.is_file())
        environment.globals |= {
            "codes": overview.codes,
            "in_flight": overview.in_flight,
            "job_table": overview.job_table,
            "known": overview.known,
            "oldest_of": overview.oldest_of,
            "resource_table": overview.resource_table,
            "total_drift": overview.total_drift,
            "severities": SEVERITIES,
            "icons": _ICONS,
            # In the URLs of the static files, so that browsers do not use those of another version.
            "edition": sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12],
            "with_details": _WITH_DETAILS,
        }
        self._template = environment.get_template("status.html.jinja")
        self._wordings = {language: Wording(language) for language in get_args(Language)}

    def render(
        self, status: Status, request: PageRequest, failures: PageFailures, job_url: JobUrl | None = None
    ) -> str:
        """Render the page of those targets that the request selects."""
        targets = [target for target in status.targets if request.run_filter.fits_target(target.key)]
        t, states = self._wordings[request.language], [target.state for target in targets]
        unreadable = [target for target in targets if target.rows_unreadable]
        ending = [one for one in status.credentials if one.expires_ms is not None]
        return self._template.render(
            status=status,
            targets=sorted(targets, key=lambda target: STATES.index(target.state)),
            headlines=overview.headlines(
                states,
                failures.spike,
                t,
                jobs_known=failures.problem is None,
                is_shard=status.shard is not None,
            ),
            problems=overview.problem_groups(targets),
            unreadable=sorted(unreadable, key=lambda target: -target.rows_unreadable),
            expired=[one for one in ending if (one.expires_ms or 0) <= status.now_ms],
            next_expiry=min(ending, key=lambda one: one.expires_ms or 0, default=None),
            failures=failures,
            shown=shown_failures(failures.groups),
            hours={hour.target: hour for hour in failures.hours},
            request=request,
            job_url=job_url,
            refresh_seconds=REFRESH_SECONDS if len(targets) < _LARGE else _LARGE_REFRESH_SECONDS,
            t=t,
        )


def _anchor(target: TargetStatus) -> str:
    """Return an element id that stays the same when the page is refreshed."""
    return "target-" + "/".join(
        quote(name, "", errors="replace") for name in (target.project, target.workspace)
    )
