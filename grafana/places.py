"""Where dashboards lead outside Grafana: the exporter's status page, and the runbooks."""

from __future__ import annotations

from dataclasses import dataclass

from exporter import __version__
from exporter.exposition import families as f
from exporter.exposition.families import Family

STATUS_PAGE = "http://localhost:10877"

# What the status page filters by and a dashboard chooses by: variable, and the family that has its values.
PAGE_FILTERS: dict[str, Family] = {
    "project": f.UP,
    "workspace": f.UP,
    "job_type": f.JOBS_CREATED,
    "msg_code": f.JOB_FAILURES,
}
# Failed runs are kept for so long.
KEPT = "24h"


@dataclass(frozen=True, slots=True)
class Places:
    """
    Addresses, as the readers' browsers reach them.

    Shape: `status_page` is the default of the dashboards' variable; `repository` is where the runbooks are
    read, as in the settings of the rules: without it, dashboards have no link to them.
    """

    status_page: str = STATUS_PAGE
    repository: str = ""

    @property
    def runbooks(self) -> str:
        """Give the address of the list of runbooks at this version, "" where it is not known."""
        if not self.repository:
            return ""
        tag = f"v{__version__}"
        root = self.repository.rstrip("/")
        root = root.replace("{tag}", tag) if "{tag}" in root else f"{root}/blob/{tag}"
        return f"{root}/docs/runbooks/README.md"


def chosen_name(label: str) -> str:
    """Name the hidden variable that has the one value that is chosen for a label, "" for several."""
    return f"page_{label}"


def page_url(**values: str) -> str:
    """Give the status page's address with filters; a value is in Grafana's form, "" leaves the filter out."""
    filters = "&".join(f"{name}={value}" for name, value in values.items() if value)
    return f"${{status_page}}/?{filters}"


def chosen(label: str) -> str:
    """Give the one chosen value of a label, as part of an address; nothing where several are chosen."""
    return f"${{{chosen_name(label)}:percentencode}}"


def failures_url(labels: tuple[str, ...], filters: tuple[str, ...], since: str = KEPT) -> str:
    """
    Lead from a series to its failures on the status page.

    Shape: `labels` are those of the series that narrow them, `filters` the dashboard's own choices.
    """
    names = ("project", "workspace", "job_type", "status", "msg_code")
    values = {name: chosen(name) for name in names if name in filters}
    values |= {name: f"${{__field.labels.{name}:percentencode}}" for name in names if name in labels}
    return page_url(**{name: values.get(name, "") for name in names}, since=since)
