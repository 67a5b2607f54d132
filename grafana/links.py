"""The links of dashboards to pages outside Grafana: the exporter's status page and the runbooks."""

from __future__ import annotations

from dataclasses import dataclass

from exporter import __version__
from exporter.exposition import families as f
from exporter.exposition.families import Family

STATUS_PAGE = "http://localhost:10877"

# The labels that dashboards filter by, each with the family that has its values.
CHOICES: dict[str, Family] = {
    "project": f.UP,
    "workspace": f.UP,
    "job_type": f.JOBS_CREATED,
    "msg_code": f.JOB_FAILURES,
    "resource_spec": f.RESOURCE_JOBS,
}
# The filters that links to the status page pass on. msg_code is not one: its empty value, which stands for
# several choices in the other filters, would there select runs without a code.
PASSED_ON = ("project", "workspace", "job_type")
# The status page keeps failed runs for this time.
KEPT = "24h"


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """
    URLs, as the readers' browsers reach them.

    Shape: `status_page` is the default of the dashboards' variable. `repository` is the repository with the
    runbooks, as in the settings of the rules; without it, dashboards have no link to the runbooks.
    """

    status_page: str = STATUS_PAGE
    repository: str = ""

    @property
    def runbooks(self) -> str:
        """Return the URL of the list of runbooks at this version, "" if the repository is unknown."""
        if not self.repository:
            return ""
        tag = f"v{__version__}"
        root = self.repository.rstrip("/")
        root = root.replace("{tag}", tag) if "{tag}" in root else f"{root}/blob/{tag}"
        return f"{root}/docs/runbooks/README.md"


def chosen_name(label: str) -> str:
    """Name the hidden variable with the value that is chosen for a label, "" if several are."""
    return f"page_{label}"


def page_url(**filters: str) -> str:
    """Return the status page's URL with filters. Their values may hold variables in Grafana's form."""
    return "${status_page}/?" + "&".join(f"{name}={value}" for name, value in filters.items())


def chosen() -> dict[str, str]:
    """Return the filters for the status page. With several choices, a value is empty: no filter."""
    return {name: f"${{{chosen_name(name)}:percentencode}}" for name in PASSED_ON}


def failures_url(labels: tuple[str, ...], since: str) -> str:
    """Return the status page's URL for the failures of a series, filtered by these labels of the series."""
    narrowed = {name: f"${{__field.labels.{name}:percentencode}}" for name in labels}
    return page_url(**{**chosen(), **narrowed}, since=since)
