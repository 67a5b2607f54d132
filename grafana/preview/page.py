"""A dashboard as one HTML page: its panels in Grafana's grid, with the data that page.js draws."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from functools import reduce
from html import escape
from typing import Any

from grafana.preview.queries import Prometheus, QueryResult, Window, run_queries
from grafana.preview.view import DashboardView, PanelView
from grafana.texts import Language, leaves

# As in page.css: the width of the page, the height above its panels, and that of a line of Grafana's grid.
WIDTH, HEAD, LINE = 1500, 98, 36
PALETTE = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF9830", "#F2495C", "#5794F2", "#B877D9", "#37872D"),
    *("#FADE2A", "#14A5A5", "#FFA6B0", "#A352CC"),
)
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def page_height(dashboard: DashboardView) -> int:
    """Return the height of the page, in pixels."""
    return HEAD + LINE * max(top + tall for _, top, _, tall in (panel.place for panel in dashboard.panels))


def page(dashboard: DashboardView, prometheus: Prometheus, window: Window, chosen: Mapping[str, str]) -> str:
    """Query all panels of a dashboard and return its page. Raises: QueryError; OSError."""
    language: Language = "zh" if dashboard.uid.endswith("-zh") else "en"
    title, notice = escape(dashboard.title), escape(leaves("shared")["preview"][language])
    links = "".join(f"<a>{escape(one['title'])}</a>" for one in reversed(dashboard.json["links"]))
    start, end = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in (window.start, window.end))
    panels = "".join(_panel(panel, prometheus, window, chosen) for panel in dashboard.panels)
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{title}</title>'
        '<link rel="stylesheet" href="uPlot.min.css"><link rel="stylesheet" href="page.css">'
        f"<header><h1>{title}</h1><em>{notice}</em>"
        f"<div>{links}{_variables(dashboard, chosen)}<span>{start} / {end} UTC</span></div></header>"
        f'<main>{panels}</main><script src="uPlot.iife.min.js"></script><script src="page.js"></script>'
    )


def _variables(dashboard: DashboardView, chosen: Mapping[str, str]) -> str:
    shown = []
    for one in dashboard.json["templating"]["list"]:
        if one["type"] in {"query", "textbox"} and "hide" not in one:
            value = chosen.get(one["name"], one["query"])
            shown.append((one["label"], "All" if value == one.get("allValue") else value))
    return "".join(f"<span>{escape(label)} <b>{escape(value)}</b></span>" for label, value in shown)


def _panel(panel: PanelView, prometheus: Prometheus, window: Window, chosen: Mapping[str, str]) -> str:
    left, top, wide, tall = panel.place
    place = f"grid-area:{top + 1} / {left + 1} / span {tall} / span {wide}"
    if panel.type == "row":
        return f'<section class="row" style="{place}">{escape(panel.title)}</section>'
    results = run_queries(panel, prometheus, window, chosen)
    exemplars = [one.points[0] for result in results for one in result.exemplars]
    data = {
        "type": panel.type,
        "options": panel.json["options"],
        "config": panel.config(""),
        "fields": _columns(panel, results) if panel.type == "table" else _series(panel, results, window),
        "exemplars": [[at for at, _ in exemplars], [value for _, value in exemplars]],
        "window": [window.start, window.end],
    }
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    body = f'<div class="body"><script type="application/json">{text}</script></div>'
    return f'<section style="{place}"><h2>{escape(panel.title)}</h2>{body}</section>'


def _series(panel: PanelView, results: list[QueryResult], window: Window) -> list[dict[str, Any]]:
    """Return the series of a panel that have a value, coloured in the order in which Grafana counts all."""
    made: list[dict[str, Any]] = []
    for result in results:
        for series in result.series:
            # In the legend's format `{{label}}` stands for the value of a label.
            name = _LABEL.sub(lambda found: series.labels.get(found[1], ""), result.target.legend).strip()  # noqa: B023
            points = {at: value for at, value in series.points if math.isfinite(value)}
            times = [*points] if result.target.instant else [*window.steps(result.step)]
            values = [points.get(at) for at in times]
            field = {"name": name, "config": panel.config(name), "times": times, "values": values}
            made.append({**field, "color": color_of(panel, name, len(made))})
    return [field for field in made if any(value is not None for value in field["values"])]


def _columns(panel: PanelView, results: list[QueryResult]) -> list[dict[str, Any]]:
    """Return the columns of a table in the panel's order, with one row for each set of labels."""
    organize = panel.json["transformations"][1]["options"]
    order = organize["indexByName"]
    heads = {name: organize["renameByName"][name] for name in sorted(order, key=order.__getitem__)}
    labels = [name for name in heads if not name.startswith("Value")]
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for result in results:
        column = heads[f"Value #{result.target.ref_id}" if len(results) > 1 else "Value"]
        for one in result.series:
            cells = {heads[name]: one.labels.get(name, "") for name in labels}
            row = rows.setdefault(tuple(cells.values()), cells)
            row[column] = one.last if math.isfinite(one.last) else None
    sort = panel.json["options"]["sortBy"][0]["displayName"]
    ordered = sorted((rows[key] for key in sorted(rows)), key=lambda row: -(row.get(sort) or 0))
    columns = [(name, [row.get(name) for row in ordered]) for name in heads.values()]
    return [{"name": name, "config": panel.config(name), "values": values} for name, values in columns]


def color_of(panel: PanelView, name: str, number: int) -> str:
    """Return the CSS colour of the series with this name and this number in the panel."""
    color = panel.config(name).get("color", {})
    match color.get("mode"):
        case "fixed":
            return str(color["fixedColor"])
        case "shades":
            # Brighter and darker shades alternate, up to six on each side.
            place = number % 11
            change = f"{'white' if place % 2 else 'black'} {(place + 1) // 2 * 35 / 6:.1f}%"
            return f"color-mix(in srgb, {change}, {color['fixedColor']})"
        case "palette-classic-by-name":
            # Grafana's hash of a name.
            number = (
                reduce(lambda hashed, letter: (hashed * 33) ^ ord(letter), reversed(name), 5381) & 0xFFFFFFFF
            )
    return PALETTE[number % len(PALETTE)]
