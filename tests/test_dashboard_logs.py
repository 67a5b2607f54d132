"""The logs on *Project and job type*: of Loki, and out of the way where there is none."""

from __future__ import annotations

import re
from typing import Any

import pytest

from grafana.boards import DASHBOARDS
from grafana.preview.view import DashboardView
from grafana.promql import SCOPE
from tests.test_event_docs import ALLOY, LABELS
from tests.test_event_lines import FIELDS

VIEWS = {file.stem: DashboardView.read(file) for file in sorted(DASHBOARDS.glob("*.json"))}
WITH_LOGS = ("octopus-project", "octopus-project-zh")

boards = pytest.mark.parametrize("name", WITH_LOGS)


def logs_row(name: str) -> dict[str, Any]:
    row = VIEWS[name].panels[-1]
    assert row.type == "row"
    return row.json


@boards
def test_the_row_is_the_last_and_closed(name: str) -> None:
    """Grafana asks for nothing in a closed row, so that nothing is missed where there is no Loki."""
    row = logs_row(name)
    assert row["collapsed"] is True
    (panel,) = row["panels"]
    assert panel["type"] == "logs"
    assert (panel["gridPos"]["w"], panel["gridPos"]["y"]) == (24, row["gridPos"]["y"] + 1)
    assert panel["description"][-1] in ".。"


@boards
def test_it_has_a_data_source_of_its_own(name: str) -> None:
    (variable,) = [one for one in VIEWS[name].json["templating"]["list"] if one["name"] == "loki"]
    assert (variable["type"], variable["query"]) == ("datasource", "loki")
    (panel,) = logs_row(name)["panels"]
    (target,) = panel["targets"]
    assert panel["datasource"] == target["datasource"] == {"type": "loki", "uid": "$loki"}


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_else_needs_a_loki(name: str) -> None:
    panels = [panel.json for panel in VIEWS[name].panels if panel.type != "row"]
    assert "loki" not in str(panels)
    variables = [one["name"] for one in VIEWS[name].json["templating"]["list"]]
    assert ("loki" in variables) == (name in WITH_LOGS)


@boards
def test_ids_are_there_once(name: str) -> None:
    ids = [panel.json["id"] for panel in VIEWS[name].panels]
    ids += [panel["id"] for panel in logs_row(name)["panels"]]
    assert len(set(ids)) == len(ids)


def test_it_asks_by_the_labels_that_the_examples_make() -> None:
    queries = {logs_row(name)["panels"][0]["targets"][0]["expr"] for name in WITH_LOGS}
    (query,) = queries
    (selector,) = re.findall(r"^\{([^}]*)\}", query)
    matchers = dict(re.findall(r'(\w+)=~?"([^"]*)"', selector))
    assert {name: matchers[name] for name in SCOPE} == {name: f"${name}" for name in SCOPE}
    assert matchers.keys() == LABELS | {"service_name"}
    assert f'service_name = "{matchers["service_name"]}"' in ALLOY
    assert set(re.findall(r"\{\{\.(\w+)\}\}", query)) <= set(FIELDS)
