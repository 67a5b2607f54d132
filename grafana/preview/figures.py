"""What is drawn of a panel that is no graph: numbers, bars, tables, heatmaps and states over time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

from grafana.preview.answers import Answer
from grafana.preview.chart import COLORS, Axes, box, clock, color_of, fields, label, name_of
from grafana.preview.filling import Window
from grafana.preview.units import written
from grafana.preview.view import PanelView


def level_color(steps: list[dict[str, Any]], value: float) -> str:
    """Give the colour of a value: that of the last step it reaches."""
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLORS[reached[-1]["color"]]


def stat(panel: PanelView, answers: list[Answer], window: Window, width: int, height: int) -> str:
    """Draw one number, with its course behind it."""
    shown = fields(panel, answers)
    values = shown[0].finite if shown else []
    if not values:
        return f'<div class="stat" style="color:{COLORS["green"]}">{escape(panel.defaults["noValue"])}</div>'
    color = level_color(panel.defaults["thresholds"]["steps"], values[-1])
    figure = written(values[-1], panel.defaults["unit"], panel.defaults.get("decimals"))
    trend = (
        "" if panel.json["options"]["graphMode"] == "none" else _trend(shown[0].points, width, color, window)
    )
    return f'{trend}<div class="stat" style="color:{color}">{figure}</div>'


def _trend(points: tuple[tuple[float, float], ...], width: int, color: str, window: Window) -> str:
    finite = [(at, value) for at, value in points if math.isfinite(value)]
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    span, height = (high - low) or 1, 42
    path = " ".join(
        f"{(at - window.start) / window.length * width:.1f},"
        f"{height - 2 - (value - low) / span * (height - 6):.1f}"
        for at, value in finite
    )
    first, last = path.split(" ")[0].split(",")[0], path.split(" ")[-1].split(",")[0]
    return (
        f'<svg class="trend" width="{width}" height="{height}">'
        f'<polygon fill="{color}" fill-opacity="0.15" points="{first},{height} {path} {last},{height}"/>'
        f'<polyline fill="none" stroke="{color}" stroke-opacity="0.6" points="{path}"/></svg>'
    )


def bar_gauge(panel: PanelView, answers: list[Answer], _window: Window, _width: int, height: int) -> str:
    """Draw present values side by side, the greatest first."""
    found = sorted(
        ((name_of(answer.target, one), one.last) for answer in answers for one in answer.series),
        key=lambda item: -item[1],
    )
    if not found:
        return f'<div class="nothing">{escape(panel.defaults["noValue"])}</div>'
    highest, rows = max(value for _, value in found) or 1, []
    for number, (name, value) in enumerate(found):
        fixed = panel.override(name, "color") is not None
        levels = panel.defaults["thresholds"]["steps"]
        color = color_of(panel, name, number) if fixed else level_color(levels, value)
        figure = written(value, panel.defaults["unit"], panel.defaults.get("decimals"))
        bar = f'<u style="width:{100 * value / highest:.1f}%;background:{color}"></u>'
        rows.append(
            f'<div><span>{escape(name)}</span><s>{bar}</s><b style="color:{color}">{figure}</b></div>'
        )
    line = min((height - 8) / len(rows), 44)
    return f'<div class="bars" style="grid-auto-rows:{line:.1f}px">{"".join(rows)}</div>'


def table(panel: PanelView, answers: list[Answer], _window: Window, _width: int, height: int) -> str:
    """Draw rows by their labels, the columns in the panel's order, as many rows as fit."""
    organize = panel.json["transformations"][1]["options"]
    names = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    labels = [name for name in names if not name.startswith("Value")]
    for answer in answers:
        column = f"Value #{answer.target.ref_id}" if len(answers) > 1 else "Value"
        for one in answer.series:
            rows.setdefault(tuple(one.labels.get(name, "") for name in labels), {})[column] = one.last
    heads = organize["renameByName"]
    sort = next(name for name in names if heads[name] == panel.json["options"]["sortBy"][0]["displayName"])
    ordered = sorted(rows.items(), key=lambda row: (-row[1].get(sort, -math.inf), row[0]))
    linked = {name for name in labels if panel.override(heads[name], "links")}
    body = []
    for key, values in ordered[: (height - 34) // 31]:
        cells = [_label_cell(value, linked=name in linked) for name, value in zip(labels, key, strict=True)]
        cells += [_value_cell(panel, heads[name], values.get(name)) for name in names if name not in labels]
        body.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th{'' if name in labels else ' class=n'}>{escape(heads[name])}</th>" for name in names)
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _label_cell(value: str, *, linked: bool) -> str:
    return f"<td{' class=link' if linked else ''}>{escape(value)}</td>"


def _value_cell(panel: PanelView, head: str, value: float | None) -> str:
    if value is None:
        return "<td class=n>-</td>"
    unit, decimals = panel.override(head, "unit"), panel.override(head, "decimals")
    levels = panel.override(head, "thresholds")
    style = "" if levels is None else f' style="color:{level_color(levels["steps"], value)}"'
    return f"<td class=n{style}>{written(value, unit, decimals)}</td>"


def heatmap(panel: PanelView, answers: list[Answer], window: Window, width: int, height: int) -> str:
    """Draw what each bucket gained in each step, the darker the more."""
    series = sorted(answers[0].series, key=lambda one: float(one.labels["le"]))
    axes = Axes(window, 0, max(len(series), 1), width, height)
    body, step = list(clock(axes)), answers[0].step
    cells = list(_cells([dict(one.points) for one in series]))
    most = max((gain for _, _, gain in cells), default=1)
    column = axes.x(step) - axes.x(0)
    for row, at, gain in cells:
        share = 0.15 + 0.85 * math.sqrt(gain / most)
        y, tall = axes.y(row + 1), axes.y(row) - axes.y(row + 1)
        left = max(axes.x(at) - column, axes.x(window.start))
        body.append(box("#FF9830", left, y, max(axes.x(at) - left - 0.5, 0), tall - 1, share))
    every = max(1, round(len(series) / 8))
    for row in range(0, len(series), every):
        bound = float(series[row].labels["le"])
        text = "+Inf" if math.isinf(bound) else written(bound, "s")
        body.append(label(54, axes.y(row + 1) + 8, text, "end"))
    return f'<svg width="{width}" height="{height}">{"".join(body)}</svg>'


def _cells(buckets: list[dict[float, float]]) -> Iterator[tuple[int, float, float]]:
    """Give what is in each bucket alone, where there is something: (row, time, observations)."""
    for row, bucket in enumerate(buckets):
        below = buckets[row - 1] if row else {}
        for at, value in bucket.items():
            gain = value - below.get(at, 0.0)
            if math.isfinite(gain) and gain > 1e-6:
                yield row, at, gain


def timeline(panel: PanelView, answers: list[Answer], window: Window, width: int, height: int) -> str:
    """Draw one line of states for each series."""
    shown = sorted(fields(panel, answers), key=lambda field: field.name)
    if not shown:
        return f'<div class="nothing">{escape(panel.defaults["noValue"])}</div>'
    left = 6.6 * max(len(field.name) for field in shown) + 8
    line, step, body = min((height - 24) / len(shown), 46), answers[0].step, []
    wide = (width - left - 8) / window.length
    for row, field in enumerate(shown):
        top = row * line
        body.append(label(left - 6, top + line / 2 + 4, field.name, "end"))
        for at, value in field.points:
            if math.isfinite(value):
                color = level_color(panel.defaults["thresholds"]["steps"], value)
                x = left + (max(at - step, window.start) - window.start) * wide
                body.append(box(color, x, top + line * 0.08, step * wide + 1, line * 0.84, 0.8))
    return (
        f'<svg width="{width}" height="{height}" shape-rendering="crispEdges">{"".join(body)}</svg>'
        + _states(panel)
    )


def _states(panel: PanelView) -> str:
    """Say what the colours mean: words where there are some, else the steps."""
    steps = panel.defaults["thresholds"]["steps"]
    mappings = panel.defaults.get("mappings")
    if mappings:
        named = [
            (steps[min(int(value), len(steps) - 1)], one["text"])
            for value, one in mappings[0]["options"].items()
        ]
    else:
        named = [(step, "" if step["value"] is None else f"≥ {step['value']:g}") for step in steps]
        named[0] = (steps[0], f"&lt; {steps[1]['value']:g}")
    items = (f'<span><i style="background:{COLORS[step["color"]]}"></i>{text}</span>' for step, text in named)
    return f'<div class="legend states">{"".join(items)}</div>'
