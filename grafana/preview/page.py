"""A dashboard as one HTML page: its panels in Grafana's grid, with the data that page.js draws."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from grafana.preview.queries import Prometheus, QueryResult, Window, run_queries
from grafana.preview.series import COLORS, Field, color_of, fields, level_color, name_of
from grafana.preview.view import DashboardView, PanelView
from grafana.texts import Language, leaves

Theme = Literal["dark", "light"]
THEMES: tuple[Theme, ...] = get_args(Theme)
COLUMN, LINE, GAP, HEAD = 62, 36, 6, 78
WIDTH = 24 * COLUMN + 2 * GAP
# What photographs the page puts uPlot's two files beside it.
_STYLE = '<link rel="stylesheet" href="uPlot.min.css">'
_SCRIPT = '<script src="uPlot.iife.min.js"></script>'
# The columns of a legend: by Grafana's name, the heading and the calculation.
_CALCULATIONS: dict[str, tuple[str, Callable[[list[float]], float]]] = {
    "sum": ("Total", sum),
    "max": ("Max", max),
    "mean": ("Mean", fmean),
    "lastNotNull": ("Last *", lambda values: values[-1]),
}
# The places on a logarithmic axis, in seconds.
_LOG_TICKS = (1, 10, 60, 600, 3600, 36_000, 86_400, 864_000)


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
    body = _BODIES[panel.type](panel, run_queries(panel, prometheus, window, chosen), window)
    return f'<section style="{place}"><h2>{escape(panel.title)}</h2><div class="body">{body}</div></section>'


def _plot(
    panel: PanelView, window: Window, series: Iterable[Mapping[str, object]] = (), **spec: object
) -> str:
    """Return the place of a graph with its data, which `draw` in page.js reads."""
    unit = panel.defaults.get("unit", "short")
    data = {"start": window.start, "end": window.end, "unit": unit, "series": [*series], **spec}
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return f'<div class="plot"><script type="application/json">{text}</script></div>'


def _nothing(panel: PanelView) -> str:
    return f'<div class="nothing">{escape(str(panel.defaults.get("noValue", "")))}</div>'


def _number(value: float, unit: str, decimals: int | None) -> str:
    """Return a number for page.js to write in its unit."""
    places = "" if decimals is None else f' data-decimals="{decimals}"'
    return f'<data value="{value}" data-unit="{escape(unit)}"{places}></data>'


def _panel_number(panel: PanelView, value: float) -> str:
    return _number(value, panel.defaults.get("unit", "short"), panel.defaults.get("decimals"))


def _graph(panel: PanelView, results: list[QueryResult], window: Window) -> str:
    """A panel of type timeseries."""
    shown, custom = fields(panel, results, window), panel.custom
    log = custom.get("scaleDistribution", {}).get("type") == "log"
    style = custom.get("thresholdsStyle", {}).get("mode", "off")
    steps = panel.defaults["thresholds"]["steps"][1:] if style != "off" else ()
    exemplars = [one.points[0] for result in results for one in result.exemplars]
    plot = _plot(
        panel,
        window,
        (_line(panel, field) for field in shown),
        log=log,
        ticks=[(at, at) for at in _LOG_TICKS] if log else None,
        bars=custom.get("drawStyle") == "bars",
        stacked=custom.get("stacking", {}).get("mode") == "normal",
        centered=custom.get("axisCenteredZero", False),
        limits=[(step["value"], COLORS[step["color"]], style == "dashed") for step in steps],
        # As many as can be told apart.
        exemplars=exemplars[:: max(1, len(exemplars) // 60)],
    )
    beside = panel.json["options"]["legend"]["displayMode"] == "table"
    legend = (_legend_table if beside else _legend_list)(panel, [one for one in shown if one.finite])
    place = "beside" if beside else "above"
    return f'{"" if shown else _nothing(panel)}<div class="{place}">{plot}{legend}</div>'


def _line(panel: PanelView, field: Field) -> dict[str, object]:
    """Return a series with its style: the panel's own, unless an override matches its name."""

    def style(name: str, default: object) -> Any:
        override = panel.override(field.name, f"custom.{name}")
        return panel.custom.get(name, default) if override is None else override

    return {
        "times": field.times,
        "values": field.values,
        "color": field.color,
        "width": style("lineWidth", 1),
        "fill": style("fillOpacity", 0),
        "dash": style("lineStyle", {}).get("dash"),
    }


def _legend_list(panel: PanelView, shown: list[Field]) -> str:
    items = []
    for field in shown:
        figures = "".join(
            f" {name}: <b>{_panel_number(panel, calculate(field.finite))}</b>"
            for name, calculate in map(_CALCULATIONS.__getitem__, panel.json["options"]["legend"]["calcs"])
        )
        items.append(f"<span>{_swatch(field.color)}{escape(field.name)}{figures}</span>")
    return f'<div class="legend">{"".join(items)}</div>'


def _legend_table(panel: PanelView, shown: list[Field]) -> str:
    legend = panel.json["options"]["legend"]
    columns = [_CALCULATIONS[name] for name in legend["calcs"]]
    sort = dict(_CALCULATIONS.values())[legend["sortBy"]]
    rows = []
    for field in sorted(shown, key=lambda field: -sort(field.finite)):
        cells = (_panel_number(panel, calculate(field.finite)) for _, calculate in columns)
        figures = "".join(f"<td class=n>{cell}</td>" for cell in cells)
        rows.append(f"<tr><td>{_swatch(field.color)}{escape(field.name)}</td>{figures}</tr>")
    heads = "".join(f"<th class=n>{name}</th>" for name, _ in columns)
    return f'<div class="figures"><table><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'


def _swatch(color: str) -> str:
    return f'<i style="background:{color}"></i>'


def _stat(panel: PanelView, results: list[QueryResult], window: Window) -> str:
    """One number, with a small graph of its past behind it."""
    shown = [field for field in fields(panel, results, window) if field.finite]
    if not shown:
        return f'<div class="stat" style="color:{COLORS["green"]}">{escape(panel.defaults["noValue"])}</div>'
    value = shown[0].finite[-1]
    color = level_color(panel.defaults["thresholds"]["steps"], value)
    trend = ""
    if panel.json["options"]["graphMode"] != "none":
        line = {"times": shown[0].times, "values": shown[0].values, "color": color, "width": 1, "fill": 15}
        trend = f'<div class="trend">{_plot(panel, window, [line], bare=True)}</div>'
    return f'{trend}<div class="stat" style="color:{color}">{_panel_number(panel, value)}</div>'


def _bar_gauge(panel: PanelView, results: list[QueryResult], _window: Window) -> str:
    """The present values side by side, the greatest first."""
    values = [(name_of(result.target, one), one.last) for result in results for one in result.series]
    if not values:
        return _nothing(panel)
    values.sort(key=lambda item: -item[1])
    highest, steps, rows = values[0][1] or 1, panel.defaults["thresholds"]["steps"], []
    for number, (name, value) in enumerate(values):
        fixed = panel.override(name, "color") is not None
        color = color_of(panel, name, number) if fixed else level_color(steps, value)
        bar = f'<s><u style="width:{100 * value / highest:.1f}%;background:{color}"></u></s>'
        figure = f'<b style="color:{color}">{_panel_number(panel, value)}</b>'
        rows.append(f"<div><span>{escape(name)}</span>{bar}{figure}</div>")
    return f'<div class="bars">{"".join(rows)}</div>'


def _table(panel: PanelView, results: list[QueryResult], _window: Window) -> str:
    """One row for each set of labels, the columns in the panel's order."""
    organize = panel.json["transformations"][1]["options"]
    names = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    heads = organize["renameByName"]
    labels = [name for name in names if not name.startswith("Value")]
    columns = [name for name in names if name.startswith("Value")]
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for result in results:
        column = f"Value #{result.target.ref_id}" if len(results) > 1 else "Value"
        for one in result.series:
            rows.setdefault(tuple(one.labels.get(name, "") for name in labels), {})[column] = one.last
    sort = next(name for name in names if heads[name] == panel.json["options"]["sortBy"][0]["displayName"])
    linked = [" class=link" if panel.override(heads[name], "links") else "" for name in labels]
    body = ""
    for key, values in sorted(rows.items(), key=lambda row: (-row[1].get(sort, -math.inf), row[0])):
        cells = (f"<td{link}>{escape(value)}</td>" for value, link in zip(key, linked, strict=True))
        figures = (_cell(panel, heads[name], values.get(name, math.nan)) for name in columns)
        body += f"<tr>{''.join(cells)}{''.join(figures)}</tr>"
    head = "".join(f"<th{'' if name in labels else ' class=n'}>{escape(heads[name])}</th>" for name in names)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(panel: PanelView, head: str, value: float) -> str:
    levels = panel.override(head, "thresholds")
    colored = levels is not None and math.isfinite(value)
    style = f' style="color:{level_color(levels["steps"], value)}"' if colored else ""
    number = _number(value, panel.override(head, "unit"), panel.override(head, "decimals"))
    return f"<td class=n{style}>{number}</td>"


def _heatmap(panel: PanelView, results: list[QueryResult], window: Window) -> str:
    """The observations of each bucket alone at each step, the brighter the more."""
    (result,) = results
    series = sorted(result.series, key=lambda one: float(one.labels["le"]))
    gains = []
    # Buckets are cumulative: what a bucket has alone is its difference to the one below it.
    below: dict[float, float] = {}
    for row, one in enumerate(series):
        bucket = dict(one.points)
        gains += [(row, at, value - below.get(at, 0.0)) for at, value in bucket.items()]
        below = bucket
    gains = [(row, at, gain) for row, at, gain in gains if math.isfinite(gain) and gain > 1e-6]
    most = max((gain for _, _, gain in gains), default=1.0)
    cells = [
        (row, at - result.step, at, COLORS["orange"], 15 + 85 * math.sqrt(gain / most))
        for row, at, gain in gains
    ]
    bounds = [float(one.labels["le"]) for one in series]
    ticks = [(row + 1, "+Inf" if math.isinf(bound) else bound) for row, bound in enumerate(bounds)]
    every = max(1, round(len(ticks) / 8))
    return _plot(panel, window, cells=cells, rows=len(series) or 1, ticks=ticks[::every], gap=0.02, apart=1)


def _state_timeline(panel: PanelView, results: list[QueryResult], window: Window) -> str:
    """One line of states for each series; equal states that follow each other are one."""
    shown = sorted(
        (field for field in fields(panel, results, window) if field.finite), key=lambda field: field.name
    )
    if not shown:
        return _nothing(panel)
    steps, step = panel.defaults["thresholds"]["steps"], results[0].step
    opacity = panel.custom["fillOpacity"]
    cells: list[tuple[int, float, float, str, float]] = []
    for row, field in enumerate(shown):
        colors = [None if value is None else level_color(steps, value) for value in field.values]
        for color, run in groupby(zip(field.times, colors, strict=True), key=lambda point: point[1]):
            times = [at for at, _ in run]
            if color is not None:
                cells.append((row, times[0] - step, times[-1], color, opacity))
    ticks = [(row + 0.5, field.name) for row, field in enumerate(shown)]
    plot = _plot(panel, window, cells=cells, rows=len(shown), ticks=ticks, gap=0.08, apart=0, downwards=True)
    legend = "".join(f"<span>{_swatch(COLORS[color])}{text}</span>" for color, text in _states(panel))
    return f'<div class="above">{plot}<div class="legend">{legend}</div></div>'


def _states(panel: PanelView) -> Iterator[tuple[str, str]]:
    """Give what each colour means: the mapped words if there are any, else the thresholds."""
    steps = panel.defaults["thresholds"]["steps"]
    if mappings := panel.defaults.get("mappings"):
        for value, one in mappings[0]["options"].items():
            yield steps[min(int(value), len(steps) - 1)]["color"], one["text"]
        return
    yield steps[0]["color"], f"&lt; {steps[1]['value']:g}"
    for step in steps[1:]:
        yield step["color"], f"≥ {step['value']:g}"


_BODIES: dict[str, Callable[[PanelView, list[QueryResult], Window], str]] = {
    "stat": _stat,
    "timeseries": _graph,
    "heatmap": _heatmap,
    "bargauge": _bar_gauge,
    "state-timeline": _state_timeline,
    "table": _table,
}
