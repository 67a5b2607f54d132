"""
Nothing refers to what is not there: one family table, and all that speaks of its metrics and labels.

Pages (docs, runbooks, README), dashboards, rules and what belongs to them are held to the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.exposition.families import FAMILIES, LABELS
from grafana.boards import DASHBOARDS
from grafana.preview.queries import Window, fill_query
from grafana.preview.view import DashboardView
from grafana.resources import PRICES
from tests.promql import LABELS_OF, SCRAPED, Selector, grouping, made, selectors

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RULES = sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
# Whatever else is read by a program and may name metrics, alerts or dashboards.
SETTINGS = [
    file
    for folder in ("prometheus", "deploy", "grafana/provisioning")
    for pattern in ("*.yml", "*.yaml")
    for file in sorted((ROOT / folder).rglob(pattern))
    if "templates" not in file.parts
]
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
_QUERY = re.compile(r"^ *```promql\n(.+?)^ *```", re.MULTILINE | re.DOTALL)
VIEWS = [DashboardView.read(file) for file in sorted(DASHBOARDS.glob("*.json"))]

FAMILY_NAMES = {family.name for family in FAMILIES}
# In OpenMetrics a counter's family has no `_total`, and docs/metrics.md says so.
METRICS = LABELS_OF.keys() | FAMILY_NAMES | {family.openmetrics_name for family in FAMILIES}
# External labels of Prometheus that alerts take the roots of their links from.
EXTERNAL = {"octopus_repository", "octopus_grafana", "octopus_status_page"}
# What Prometheus itself and its client library have, and rules and dashboards use.
FOREIGN = re.compile(r"^(up|ALERTS|scrape_\w+|process_\w+|python_\w+|prometheus_\w+)$")

_METRIC = re.compile(r"(?<![\w:/.-])octopus_[a-z0-9_]+(?![\w:*]|-)")
_SELECTED = re.compile(r"(?<![\w:])(octopus_[a-z0-9_]+)\{([^{}]*)\}")
_MATCHED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*[\"']")
_ALERT = re.compile(r"\bOctopus[A-Z]\w+")


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def rules() -> Iterator[dict[str, Any]]:
    """Give every rule there is, recording or alerting."""
    for file in RULES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


RECORDED = {rule["record"] for rule in rules() if "record" in rule}
ALERTING = [rule for rule in rules() if "alert" in rule]
ALERTS = {rule["alert"] for rule in ALERTING}
# Labels of rules' own making, and those of ALERTS.
OF_RULES = {"alertname", "alertstate", "severity"}.union(
    *(made(rule["expr"]) | rule.get("labels", {}).keys() for rule in rules())
)


def wrong(selector: Selector) -> str | None:
    """Say what is wrong with a selector; None for nothing."""
    if selector.name in LABELS_OF:
        unknown = selector.wrong_labels
        return f"{selector.name} has no label {', '.join(sorted(unknown))}" if unknown else None
    if selector.name in RECORDED:
        unknown = selector.labels - LABELS.keys() - SCRAPED - OF_RULES
        return f"{selector.name}: no metric has a label {', '.join(sorted(unknown))}" if unknown else None
    return None if FOREIGN.match(selector.name) else f"there is no {selector.name}"


def problems(expression: str) -> list[str]:
    """Give all that an expression gets wrong."""
    found = [problem for selector in selectors(expression) if (problem := wrong(selector))]
    unknown = grouping(expression) - LABELS.keys() - SCRAPED - OF_RULES - made(expression)
    return found + [f"no metric has a label {label}" for label in sorted(unknown)]


# --- pages and settings: whatever reads like a metric is one


@pytest.mark.parametrize("file", [*PAGES, *SETTINGS], ids=named)
def test_every_metric_that_is_named_exists(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert set(_METRIC.findall(text)) - METRICS - EXTERNAL - {one.split(":")[1] for one in RECORDED} == set()


@pytest.mark.parametrize("file", [*PAGES, *SETTINGS], ids=named)
def test_every_label_that_is_matched_exists(file: Path) -> None:
    for name, matchers in _SELECTED.findall(file.read_text(encoding="utf-8")):
        labels = set(_MATCHED.findall(matchers))
        assert labels <= LABELS_OF.get(name, LABELS.keys() | SCRAPED), f"{name}{{{matchers}}}"


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_query_on_a_page_is_right(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for block in re.findall(r"^ *```promql\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        for query in _queries(block):
            assert problems(query) == [], query


def _queries(block: str) -> list[str]:
    """Give the queries of a block: one to each comment or blank line, or one in all."""
    parts = re.split(r"^\s*(?:#.*)?$", block, flags=re.MULTILINE)
    return [part.strip() for part in parts if part.strip()]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/metrics.md", "docs/metrics.zh-CN.md"])
def test_every_metric_is_on_the_reference_pages(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert {name for name in FAMILY_NAMES if f"`{name}`" not in text} == set()


# --- dashboards


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.uid)
def test_dashboards_ask_for_what_exists(view: DashboardView) -> None:
    window = Window(start=0, end=6 * 3600)
    chosen = dict.fromkeys(view.variables, "some") | dict.fromkeys(PRICES, "1")
    for panel in view.panels:
        for target in panel.targets:
            query = fill_query(panel, target, window, chosen).expression
            assert problems(query) == [], query


def test_every_metric_is_on_a_dashboard() -> None:
    asked_for = {
        found
        for view in VIEWS
        for panel in view.panels
        for target in panel.targets
        for found in re.findall(r"\boctopus_\w+", target.expression)
    }
    shown = {name.removesuffix(suffix) for name in asked_for for suffix in ("", "_bucket")}
    assert FAMILY_NAMES - shown == set()


# --- rules and runbooks


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: rule.get("alert") or rule.get("record"))
def test_rules_ask_for_what_exists(rule: dict[str, Any]) -> None:
    assert problems(rule["expr"]) == [], rule["expr"]


@pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: rule["alert"])
def test_alerts_lead_to_dashboards_and_runbooks_that_exist(rule: dict[str, Any]) -> None:
    url = rule["annotations"]["dashboard_url"]
    uid = re.search(r"/d/([\w-]+)", url)
    assert uid, url
    view = next(view for view in VIEWS if view.uid == uid[1])
    assert set(re.findall(r"var-(\w+)=", url)) <= view.variables.keys()
    runbook = re.search(r"docs/runbooks/[\w-]+\.md", rule["annotations"]["runbook_url"])
    assert runbook, rule["annotations"]["runbook_url"]
    assert (ROOT / runbook[0]).is_file(), runbook[0]


@pytest.mark.parametrize("file", [*PAGES, *SETTINGS], ids=named)
def test_every_alert_that_is_named_exists(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    defined = set(re.findall(r"\balert: (\w+)", text))
    assert set(_ALERT.findall(text)) - ALERTS - defined == set()


@pytest.mark.parametrize("file", RUNBOOKS, ids=named)
def test_the_queries_of_runbooks_can_be_asked(file: Path) -> None:
    for query in _QUERY.findall(file.read_text(encoding="utf-8")):
        assert problems(query) == [], query


def test_every_runbook_is_of_an_alert() -> None:
    pages = {file.stem for file in RUNBOOKS}
    assert {name for name in pages if name.startswith("Octopus")} - ALERTS == set()


# --- the test itself


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("octopus_jobs_total", "there is no octopus_jobs_total"),
        ('octopus_jobs{msg_code="3001"}', "octopus_jobs has no label msg_code"),
        ("octopus_jobs_created", "there is no octopus_jobs_created"),
        ("sum by (type) (octopus_jobs)", "no metric has a label type"),
    ],
)
def test_what_is_wrong_is_found(expression: str, problem: str) -> None:
    assert problems(expression) == [problem]
