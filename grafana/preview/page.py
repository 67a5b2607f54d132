"""A dashboard as one HTML page: its panels in Grafana's grid, with the data that page.js draws."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Literal, get_args

from grafana.preview.queries import Prometheus, Window, run_queries
from grafana.preview.series import columns, fields
from grafana.preview.view import DashboardView, PanelView
from grafana.texts import Language, leaves

Theme = Literal["dark", "light"]
THEMES: tuple[Theme, ...] = get_args(Theme)
COLUMN, LINE, GAP, HEAD = 62, 36, 6, 78
WIDTH = 24 * COLUMN + 2 * GAP
# What photographs the page puts uPlot's two files beside it.
_STYLE = '<link rel="stylesheet" href="uPlot.min.css">'
_SCRIPT = '<script src="uPlot.iife.min.js"></script>'


def page_height(dashboard: DashboardView) -> int:
    """Return the height of the page, in pixels."""
    lines = max(top + tall for _, top, _, tall in (panel.place for panel in dashboard.panels))
    return HEAD + LINE * lines + GAP


def page(
    dashboard: DashboardView,
    prometheus: Prometheus,
    window: Window,
    chosen: Mapping[str, str],
    theme: Theme = "dark",
) -> str:
    """Query all panels of a dashboard and return its page. Raises: QueryError; OSError."""
    language: Language = "zh" if dashboard.uid.endswith("-zh") else "en"
    notice = leaves("shared")["preview"][language]
    links = "".join(f"<a>{escape(one['title'])}</a>" for one in reversed(dashboard.json["links"]))
    start, end = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in (window.start, window.end))
    panels = "".join(_panel(panel, prometheus, window, chosen) for panel in dashboard.panels)
    style, script = ((Path(__file__).parent / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return (
        f'<!doctype html><html lang="{language}" class="{theme}"><meta charset="utf-8">'
        f"<title>{escape(dashboard.title)}</title>{_STYLE}<style>{style}</style>"
        f"<body style='width:{WIDTH}px;height:{page_height(dashboard)}px'>"
        f"<header><h1>{escape(dashboard.title)}</h1><em>{escape(notice)}</em>"
        f"<div>{links}{_variables(dashboard, chosen)}<span>{start} / {end} UTC</span></div></header>"
        f"{panels}{_SCRIPT}<script>{script}</script></body></html>"
    )


def _variables(dashboard: DashboardView, chosen: Mapping[str, str]) -> str:
    shown = []
    for one in dashboard.json["templating"]["list"]:
        if one["type"] == "query" and one["name"] in dashboard.variables:
            value = chosen[one["name"]]
            shown.append((one["label"], "All" if value == one["allValue"] else value))
        elif one["type"] == "textbox":
            shown.append((one["label"], one["query"]))
    return "".join(f"<span>{escape(label)} <b>{escape(value)}</b></span>" for label, value in shown)


def _panel(panel: PanelView, prometheus: Prometheus, window: Window, chosen: Mapping[str, str]) -> str:
    left, top, wide, tall = panel.place
    x, y = GAP + left * COLUMN + GAP // 2, HEAD + top * LINE + GAP // 2
    place = f"left:{x}px;top:{y}px;width:{wide * COLUMN - GAP}px;height:{tall * LINE - GAP}px"
    if panel.type == "row":
        return f'<section class="row" style="{place}">{escape(panel.title)}</section>'
    results = run_queries(panel, prometheus, window, chosen)
    shown = columns(panel, results) if panel.type == "table" else fields(panel, results, window)
    data = {
        "type": panel.type,
        "options": panel.json["options"],
        "config": panel.config(""),
        "fields": [asdict(field) for field in shown],
        "exemplars": [one.points[0] for result in results for one in result.exemplars],
        "start": window.start,
        "end": window.end,
        "step": results[0].step,
    }
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    body = f'<div class="body"><script type="application/json">{text}</script></div>'
    return f'<section style="{place}"><h2>{escape(panel.title)}</h2>{body}</section>'
