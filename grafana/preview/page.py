"""A dashboard as one page of HTML: its panels at their places, drawn from what Prometheus answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Literal, get_args

from grafana.preview.answers import answers
from grafana.preview.chart import graph
from grafana.preview.figures import bar_gauge, heatmap, stat, table, timeline
from grafana.preview.filling import Window
from grafana.preview.prometheus import Prometheus
from grafana.preview.view import DashboardView, PanelView
from grafana.texts import Language, leaves

Theme = Literal["dark", "light"]
THEMES: tuple[Theme, ...] = get_args(Theme)
COLUMN, LINE, GAP, HEAD = 62, 36, 6, 78
WIDTH = 24 * COLUMN + 2 * GAP
DRAWERS = {
    "stat": stat,
    "timeseries": graph,
    "heatmap": heatmap,
    "bargauge": bar_gauge,
    "state-timeline": timeline,
    "table": table,
}

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def height(dashboard: DashboardView) -> int:
    """Give the height of the page, in pixels."""
    return (
        HEAD + LINE * max(top + tall for _, top, _, tall in (panel.place for panel in dashboard.panels)) + GAP
    )


def page(
    dashboard: DashboardView,
    prometheus: Prometheus,
    window: Window,
    chosen: Mapping[str, str],
    theme: Theme = "dark",
) -> str:
    """Draw a dashboard. Raises: QueryError; OSError."""
    language: Language = "zh" if dashboard.uid.endswith("-zh") else "en"
    says = leaves("shared")["preview"][language]
    panels = "".join(_panel(panel, prometheus, window, chosen) for panel in dashboard.panels)
    return (
        f'<!doctype html><html lang="{language}" class="{theme}"><meta charset="utf-8">'
        f"<title>{escape(dashboard.title)}</title>"
        f"<style>{_STYLE}</style><body style='width:{WIDTH}px;height:{height(dashboard)}px'>"
        f"<header><h1>{escape(dashboard.title)}</h1><em>{escape(says)}</em>"
        f"<div>{_links(dashboard)}{_variables(dashboard, chosen)}{_times(window)}</div></header>"
        f"{panels}</body></html>"
    )


def _variables(dashboard: DashboardView, chosen: Mapping[str, str]) -> str:
    shown = []
    for one in dashboard.json["templating"]["list"]:
        if one["type"] == "query" and one["name"] in dashboard.variables:
            everything = chosen[one["name"]] == one["allValue"]
            shown.append((one["label"], "All" if everything else chosen[one["name"]]))
        elif one["type"] == "textbox":
            shown.append((one["label"], one["query"]))
    return "".join(f"<span>{escape(label)} <b>{escape(value)}</b></span>" for label, value in shown)


def _links(dashboard: DashboardView) -> str:
    """Name what the dashboard's links lead to; the first is at the right in what follows."""
    named = [escape(one["title"]) for one in dashboard.json["links"]]
    return "".join(f"<a>{name}</a>" for name in reversed(named))


def _times(window: Window) -> str:
    start, end = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in (window.start, window.end))
    return f"<span>{start} / {end} UTC</span>"


def _panel(panel: PanelView, prometheus: Prometheus, window: Window, chosen: Mapping[str, str]) -> str:
    left, top, wide, tall = panel.place
    x, y = GAP + left * COLUMN + GAP // 2, HEAD + top * LINE + GAP // 2
    width, high = wide * COLUMN - GAP, tall * LINE - GAP
    place = f"left:{x}px;top:{y}px;width:{width}px;height:{high}px"
    if panel.type == "row":
        return f'<section class="row" style="{place}">{escape(panel.title)}</section>'
    found = answers(panel, prometheus, window, chosen)
    body_height = high - 30
    body = DRAWERS[panel.type](panel, found, window, width - 2, body_height)
    inner = f'<div class="body" style="height:{body_height}px">{body}</div>'
    return f'<section style="{place}"><h2>{escape(panel.title)}</h2>{inner}</section>'
