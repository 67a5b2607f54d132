"""
The logs of a dashboard: single runs, from Loki.

Loki is not needed for anything else. So this has a data source variable of its own, and a row that is closed:
Grafana asks for the panels of a row when it is opened.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, logs, loki
from grafana_foundation_sdk.models import common as m
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.loki import QueryEditorMode

from grafana.promql import SCOPE
from grafana.texts import Texts

LOKI = m.DataSourceRef(type_val="loki", uid="$loki")
HEIGHT = 12
_MOST_LINES = 500

# The labels are those of the examples in deploy/loki.
_CHOSEN = ", ".join(f'{name}=~"${name}"' for name in SCOPE)
FAILED_RUNS = (
    f'{{service_name="octopus-events", {_CHOSEN}, status=~".*_FAILED"}} | json | msg_code=~"$msg_code"'
    ' | line_format "{{.job_type}} {{.status}} {{.msg_code}} {{.job_id}} {{.data_id}}: {{.msg_error}}"'
)


def variable(texts: Texts) -> dashboard.DatasourceVariable:
    """Let one choose a Loki, or none where there is none."""
    return dashboard.DatasourceVariable("loki").label(texts("labels.loki")).type("loki")


def row(texts: Texts, top: int, number: int) -> dashboard.Row:
    """Give the closed row, at this line of the grid; its panels have the ids from `number` on."""
    panel = (
        logs.Panel()
        .id(number + 1)
        .title(texts("runs.title"))
        .description(texts("runs.description"))
        .datasource(LOKI)
        .grid_pos(d.GridPos(h=HEIGHT, w=24, x=0, y=top + 1))
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(m.LogsSortOrder.DESCENDING)
        .dedup_strategy(m.LogsDedupStrategy.NONE)
        .no_value(texts("nothing"))
        .with_target(
            loki.Dataquery()
            .datasource(LOKI)
            .editor_mode(QueryEditorMode.CODE)
            .expr(FAILED_RUNS)
            .query_type("range")
            .max_lines(_MOST_LINES)
            .ref_id("A")
        )
    )
    heading = dashboard.Row(texts("rows.runs")).id(number).grid_pos(d.GridPos(h=1, w=24, x=0, y=top))
    return heading.collapsed(True).with_panel(panel)
