"""Every link leads somewhere: each one of the pages, and those of every alert with its labels filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
import yaml

from exporter.rules import generate
from exporter.rules.settings import Settings
from tests.e2e.exporting import Exporter, project
from tests.e2e.simulation import simulations
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
CONSOLE = "https://console.example/"
GRAFANA, REPOSITORY = "https://grafana.example", "https://git.example/octopus-exporter"
# What the alerts' labels are on this stage.
LABELS = {
    "project": "perception",
    "workspace": "0",
    "job_type": "FRAME_EXTRACT",
    "status": "RUN_FAILED",
    "msg_code": "3001",
    "instance": "octopus-exporter",
    "credentials": "default",
    "resource_spec": "2Core_4GiB",
}
# What a link may set beside the one filter up to which links are followed.
BESIDE = {"lang", "since", "project", "workspace", "format", "limit"}
FAILED = {
    ("FRAME_EXTRACT", "RUN_FAILED", 3001): 20,
    ("SCENARIO_TO_SIM", "UPLOAD_FAILED", 0): 3,
    ("PACKAGE_IMPORT", "SUBMIT_FAILED", 1001): 2,
}


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """Give an exporter of two targets that has seen all kinds of failures."""
    folder = tmp_path_factory.mktemp("links")
    with simulations(folder / "simulators", {"jobs": 50, "workspaces": ["0", "7"]}) as (simulator,):
        targets = project(simulator.url, "perception", workspaces=["0", "7"])
        exporter = Exporter(folder / "exporter", simulator.url, projects=[targets])
        exporter.change(web={"job_url": CONSOLE + "{project_id}/{workspace}/{job_id}"})
        with exporter.ready():
            exporter.scrape_until_polled()
            for (job_type, status, code), count in FAILED.items():
                simulator.create_jobs(job_type=job_type, outcome=status, msg_code=code, count=count)
            simulator.advance(60)
            every = f"api/v1/failures?limit={sum(FAILED.values())}"
            until(lambda: len(exporter.page(every).json["failures"]) == sum(FAILED.values()), "failures")
            yield exporter


@dataclass
class Links(HTMLParser):
    """The links of a page, and the names that others may link to in it."""

    found: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [link for name in ("href", "src") if (link := given.get(name)) is not None]
        self.names |= {given["id"]} if given.get("id") else set()


def test_every_link_of_the_pages_leads_somewhere(exporter: Exporter) -> None:
    """Follow the links of the page, and those of the pages behind them in so far as each shows one filter."""
    root = f"http://127.0.0.1:{exporter.port}/"
    waiting, seen, elsewhere = ["", "?lang=zh"], set[str](), set[str]()
    while waiting:
        path = waiting.pop()
        answer = exporter.page(path)
        assert answer.status == 200, path
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        page = Links()
        page.feed(answer.text)
        for link in page.found:
            url = urljoin(root + path, link)
            if not url.startswith(root):
                elsewhere.add(url)
                continue
            within, _, name = url.removeprefix(root).partition("#")
            assert not name or within != path or name in page.names, f"{path}: {link}"
            if within not in seen and len(parse_qs(within.partition("?")[2]).keys() - BESIDE) <= 1:
                seen.add(within)
                waiting.append(within)
    asked = {name for path in seen for name in parse_qs(path.partition("?")[2], keep_blank_values=True)}
    assert asked >= {"project", "workspace", "job_type", "status", "msg_code", "since", "lang", "format"}
    assert len(elsewhere) >= sum(FAILED.values())
    assert all(url.startswith(CONSOLE) for url in elsewhere)


def alerts(status_page: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Give every alert's annotations with the roots of this stage."""
    links = {"repository": REPOSITORY, "grafana": GRAFANA, "status_page": status_page}
    settings = yaml.safe_load((ROOT / "prometheus" / "settings.yaml").read_text(encoding="utf-8"))
    for text in generate(Settings.model_validate(settings | {"links": settings["links"] | links})).values():
        for group in yaml.safe_load(text)["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield rule["alert"], rule["annotations"]


def filled_in(link: str) -> str:
    """Fill in the labels as Prometheus does."""
    return re.sub(r"\{\{ \$labels\.(\w+) \| urlquery \}\}", lambda found: quote(LABELS[found[1]]), link)


def test_every_link_of_every_alert_leads_somewhere(exporter: Exporter) -> None:
    root = f"http://127.0.0.1:{exporter.port}"
    named = set()
    for alert, given in alerts(root):
        named.add(alert)
        page = filled_in(given.get("status_url", f"{root}/"))
        answer = exporter.page(page.removeprefix(f"{root}/"))
        assert answer.status == 200, page
        if "msg_code" in page or "status=RUN_FAILED" in page:
            assert "20 failed runs" in answer.text, page
        check_dashboard(filled_in(given["dashboard_url"]))
        runbook = re.fullmatch(rf"{REPOSITORY}/blob/v[^/]+/(.+)", given["runbook_url"])
        assert runbook, given["runbook_url"]
        assert (ROOT / runbook[1]).is_file()
    assert named == {page.stem for page in (ROOT / "docs" / "runbooks").glob("Octopus*.md")}


def check_dashboard(url: str) -> None:
    """The dashboard is there, and has the variables that the link sets."""
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}" == GRAFANA
    uid = parts.path.removeprefix("/d/")
    board = json.loads((ROOT / "grafana" / "dashboards" / f"{uid}.json").read_text(encoding="utf-8"))
    assert board["uid"] == uid
    variables = {one["name"] for one in board["templating"]["list"]}
    given = parse_qs(parts.query)
    assert {name.removeprefix("var-") for name in given if name.startswith("var-")} <= variables
    assert given["to"] == ["now"]
