"""Where dashboards lead outside Grafana: the exporter's status page, and the runbooks."""

from __future__ import annotations

from dataclasses import dataclass

from exporter import __version__
from exporter.exposition import families as f
from exporter.exposition.families import Family

STATUS_PAGE = "http://localhost:10877"

# What dashboards choose by: the label, and the family that has its values.
CHOICES: dict[str, Family] = {
    "project": f.UP,
    "workspace": f.UP,
    "job_type": f.JOBS_CREATED,
    "msg_code": f.JOB_FAILURES,
}
# Those that links to the status page take along. An empty value is no filter there; for msg_code it stands
# for runs without a code.
TAKEN_ALONG = ("project", "workspace", "job_type")
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


def page_url(**filters: str) -> str:
    """Give the status page's address with filters, whose values are in Grafana's form."""
    return "${status_page}/?" + "&".join(f"{name}={value}" for name, value in filters.items())


def chosen() -> dict[str, str]:
    """Give what is chosen alone as the status page's filters; a value is empty where several are chosen."""
    return {name: f"${{{chosen_name(name)}:percentencode}}" for name in TAKEN_ALONG}


def failures_url(labels: tuple[str, ...], since: str) -> str:
    """Lead from a series to its failures on the status page; `labels` are those of it that narrow them."""
    narrowed = {name: f"${{__field.labels.{name}:percentencode}}" for name in labels}
    return page_url(**{**chosen(), **narrowed}, since=since)
