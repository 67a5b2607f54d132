"""The status page: a Status as HTML, in one of the languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import get_args
from urllib.parse import quote, urlencode

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.web import page_overview
from exporter.web.page_language import Language
from exporter.web.page_wording import Wording, excerpt, iso, number, size, utc
from exporter.web.status import Status, TargetStatus

STATIC = Path(__file__).parent / "static"
REFRESH_SECONDS = 5
# A page of hundreds of targets is more work, to write and to show.
_LARGE, _LARGE_REFRESH_SECONDS = 50, 15


@dataclass(frozen=True, slots=True)
class Question:
    """What a page is asked for: its language, whether the link itself says that, and of one target or all."""

    language: Language
    says_language: bool = False
    project: str | None = None
    workspace: str | None = None

    def picks(self, target: TargetStatus) -> bool:
        return self.project in (None, target.project) and self.workspace in (None, target.workspace)

    def link(self, target: TargetStatus | None, language: Language | None = None) -> str:
        """Give the address of another page of ours, from this one."""
        chosen = language or (self.language if self.says_language else None)
        return _address(
            {
                "project": target.project if target else None,
                "workspace": target.workspace if target else None,
                "lang": chosen,
            }
        )

    def in_language(self, language: Language) -> str:
        """Give this page's address in a language."""
        return _address({"project": self.project, "workspace": self.workspace, "lang": language})


def _address(query: Mapping[str, str | None]) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return "?" + urlencode(given, errors="replace") if given else "."


class Page:
    """The compiled template. `render` is pure and may run in any thread."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader("exporter.web"),
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
            "size": size,
            "utc": utc,
            "yaml": _yaml,
        }
        environment.globals |= {
            "codes": page_overview.codes,
            "in_flight": page_overview.in_flight,
            "job_table": page_overview.job_table,
            "last_failed": page_overview.last_failed,
            "oldest_of": page_overview.oldest_of,
            "severities": page_overview.SEVERITIES,
            "edition": _edition(),
        }
        self._template = environment.get_template("status.html.jinja")
        self._wordings = {language: Wording(language) for language in get_args(Language)}

    def render(self, status: Status, question: Question) -> str | None:
        """Write the page out; None where the target asked for is not there."""
        targets = [target for target in status.targets if question.picks(target)]
        if not targets and question.project is not None:
            return None
        return self._template.render(
            status=status,
            overview=page_overview.overview(status, targets),
            question=question,
            refresh_seconds=REFRESH_SECONDS if len(targets) < _LARGE else _LARGE_REFRESH_SECONDS,
            t=self._wordings[question.language],
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
