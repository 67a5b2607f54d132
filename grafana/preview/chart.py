"""Graphs over time as SVG: lines, areas and bars, with axes, limits and a legend."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

from grafana.preview.answers import Answer
from grafana.preview.filling import Window
from grafana.preview.prometheus import Series
from grafana.preview.units import decades, ticks, written
from grafana.preview.view import PanelView, Target

PALETTE = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF9830", "#F2495C", "#5794F2", "#B877D9", "#37872D"),
    *("#FADE2A", "#14A5A5", "#FFA6B0", "#A352CC"),
)
COLORS = {
    "green": "#73BF69",
    "yellow": "#FADE2A",
    "orange": "#FF9830",
    "red": "#F2495C",
    "blue": "#5794F2",
    "gray": "#8E8E8E",
    "transparent": "none",
}
# How many shades Grafana makes of a colour to either side, and how far they go.
_SHADES, _MOST_CHANGE = 6, 0.35
# Where a logarithmic axis begins.
_LEAST = 1.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 8, 22
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Field:
    """One series as it is drawn."""

    name: str
    color: str
    dashed: bool
    points: tuple[tuple[float, float], ...]
    strong: bool = False

    @property
    def finite(self) -> list[float]:
        return [value for _, value in self.points if math.isfinite(value)]


@dataclass(frozen=True, slots=True)
class Axes:
    """From time and value to pixels."""

    window: Window
    low: float
    high: float
    width: int
    height: int
    logarithmic: bool = False

    def x(self, at: float) -> float:
        share = (at - self.window.start) / (self.window.end - self.window.start)
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high, value = map(self._scaled, (self.low, self.high, value))
        share = (value - low) / (high - low)
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, _LEAST)) if self.logarithmic else value


def name_of(target: Target, series: Series) -> str:
    """Write a legend, as `{{label}}` has it."""
    return _LABEL.sub(lambda found: series.labels.get(found[1], ""), target.legend).strip()


def fields(panel: PanelView, answers: list[Answer]) -> list[Field]:
    """Name and colour all series of a panel."""
    named = [(name_of(answer.target, one), one) for answer in answers for one in answer.series]
    drawn = []
    for number, (name, series) in enumerate(named):
        color = color_of(panel, name, number)
        dashed = panel.override(name, "custom.lineStyle") is not None
        strong = panel.override(name, "custom.lineWidth") is not None
        drawn.append(Field(name, color, dashed, series.points, strong))
    return drawn


def color_of(panel: PanelView, name: str, number: int) -> str:
    """Give the colour of the series of this name and place in the panel."""
    told = panel.override(name, "color") or panel.defaults.get("color", {})
    match told.get("mode"):
        case "fixed":
            return str(told["fixedColor"])
        case "shades":
            return shade(told["fixedColor"], number)
        case "palette-classic-by-name":
            return PALETTE[_hash(name) % len(PALETTE)]
    return PALETTE[number % len(PALETTE)]


def shade(color: str, number: int) -> str:
    """Give a shade of a colour by the place of its series: brighter and darker ones by turns."""
    place = number % (2 * _SHADES - 1)
    change = (place + 1) // 2 / _SHADES * _MOST_CHANGE * (1 if place % 2 else -1)
    parts = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    towards = 255 if change > 0 else 0
    return "#" + "".join(f"{round(part + (towards - part) * abs(change)):02X}" for part in parts)


def _hash(name: str) -> int:
    """Hash a series' name as Grafana does to choose its colour."""
    found = 5381
    for letter in reversed(name):
        found = (found * 33) ^ ord(letter)
    return found & 0xFFFFFFFF


def graph(panel: PanelView, answers: list[Answer], window: Window, width: int, height: int) -> str:
    """Draw a panel of type timeseries; `width` and `height` are those of its content."""
    shown = fields(panel, answers)
    beside = panel.json["options"]["legend"]["displayMode"] == "table"
    legend = _figures(panel, shown, height) if beside else _legend(panel, shown)
    if beside:
        width = round(width * 0.62)
    else:
        rows = max(1, math.ceil(sum(len(field.name) + 12 for field in shown) * 6.4 / width))
        height -= 18 * min(rows, 3)
    stacked = panel.custom.get("stacking", {}).get("mode") == "normal"
    bars = panel.custom.get("drawStyle") == "bars"
    layers = _stacked(shown) if stacked else [(field, None) for field in shown]
    axes = _axes(panel, layers, window, width, height)
    step = answers[0].step if answers else 60
    body = [*_grid(axes, panel.defaults.get("unit", "short")), *_limits(panel, axes)]
    for field, floor in layers:
        body += _bars(field, floor, axes, step) if bars else _line(field, floor, axes, step, stacked=stacked)
    body += _diamonds(answers, axes)
    nothing = "" if shown else f'<div class="nothing">{escape(str(panel.defaults.get("noValue", "")))}</div>'
    inner = f'{nothing}<svg width="{width}" height="{height}">{"".join(body)}</svg>{legend}'
    return f'<div class="beside">{inner}</div>' if beside else inner


Floor = dict[float, float] | None


def _stacked(shown: list[Field]) -> list[tuple[Field, Floor]]:
    """Put each field on those before it."""
    tops: dict[float, float] = {}
    layers: list[tuple[Field, Floor]] = []
    for field in shown:
        floor = {at: tops.get(at, 0.0) for at, _ in field.points}
        points = tuple((at, floor[at] + value) for at, value in field.points if math.isfinite(value))
        tops.update(points)
        layers.append((replace(field, points=points), floor))
    return layers


def _axes(
    panel: PanelView, layers: Iterable[tuple[Field, Floor]], window: Window, width: int, height: int
) -> Axes:
    values = [value for field, _ in layers for value in field.finite]
    low, high = min([0.0, *values]), max([0.0, *values])
    if high - low < 1e-12:
        high = low + 1
    if panel.custom.get("axisCenteredZero"):
        high = max(high, -low)
        low = -high * 1.06
    if panel.custom.get("scaleDistribution", {}).get("type") == "log":
        return Axes(window, _LEAST, max(high, 10 * _LEAST) * 2, width, height, logarithmic=True)
    return Axes(window, low, low + (high - low) * 1.06, width, height)


def _grid(axes: Axes, unit: str) -> Iterator[str]:
    for value in decades(axes.high) if axes.logarithmic else ticks(axes.low, axes.high, unit):
        y = axes.y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{axes.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield label(_LEFT - 8, y + 4, written(value, unit), "end")
    yield from clock(axes)


def clock(axes: Axes) -> Iterator[str]:
    """Draw the axis of time, in UTC."""
    step = next(size for size in (600, 1800, 3600, 7200, 14_400, 86_400) if axes.window.length / size <= 8)
    at = math.ceil(axes.window.start / step) * step
    while at <= axes.window.end:
        x = axes.x(at)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{axes.height - _BOTTOM}"/>'
        beside = min(x, axes.width - 18)
        yield label(beside, axes.height - 6, time.strftime("%H:%M", time.gmtime(at)), "middle")
        at += step


def label(x: float, y: float, text: str, anchor: Literal["middle", "end"]) -> str:
    """Write beside an axis."""
    return f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _limits(panel: PanelView, axes: Axes) -> Iterator[str]:
    style = panel.custom.get("thresholdsStyle", {}).get("mode", "off")
    if style == "off":
        return
    for step in panel.defaults["thresholds"]["steps"][1:]:
        if axes.low < step["value"] < axes.high:
            y, color = axes.y(step["value"]), COLORS[step["color"]]
            ends = f'x1="{_LEFT}" x2="{axes.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
            yield f'<line class="limit {style}" stroke="{color}" {ends}/>'


def _line(field: Field, floor: Floor, axes: Axes, step: int, *, stacked: bool) -> Iterator[str]:
    dash = ' stroke-dasharray="6 5"' if field.dashed else ""
    for run in _runs(field.points, step):
        path = " ".join(f"{axes.x(at):.1f},{axes.y(value):.1f}" for at, value in run)
        if stacked and floor is not None:
            back = " ".join(f"{axes.x(at):.1f},{axes.y(floor.get(at, 0)):.1f}" for at, _ in reversed(run))
            yield f'<polygon fill="{field.color}" fill-opacity="0.35" points="{path} {back}"/>'
        if field.strong:
            zero = f"{axes.y(0):.1f}"
            area = f"{axes.x(run[0][0]):.1f},{zero} {path} {axes.x(run[-1][0]):.1f},{zero}"
            yield f'<polygon fill="{field.color}" fill-opacity="0.2" points="{area}"/>'
        thick = 2 if field.strong else 1.5
        yield f'<polyline fill="none" stroke="{field.color}" stroke-width="{thick}"{dash} points="{path}"/>'


def _runs(points: tuple[tuple[float, float], ...], step: int) -> Iterator[list[tuple[float, float]]]:
    """Split where values are missing."""
    run: list[tuple[float, float]] = []
    for at, value in points:
        if run and (not math.isfinite(value) or at - run[-1][0] > 1.5 * step):
            yield run
            run = []
        if math.isfinite(value):
            run.append((at, value))
    if run:
        yield run


def _bars(field: Field, floor: Floor, axes: Axes, step: int) -> Iterator[str]:
    width = max(axes.x(step) - axes.x(0) - 1, 1)
    for at, value in field.points:
        if math.isfinite(value):
            top, bottom = axes.y(value), axes.y((floor or {}).get(at, 0.0))
            yield box(field.color, axes.x(at) - width, top, width, bottom - top)


def box(color: str, x: float, y: float, width: float, height: float, opacity: float = 1) -> str:
    """Draw a filled rectangle."""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect fill="{color}" fill-opacity="{opacity:.2f}" {size}/>'


def _diamonds(answers: list[Answer], axes: Axes) -> Iterator[str]:
    """Mark the exemplars, as many as can be told apart."""
    found = [one for answer in answers for one in answer.exemplars]
    for one in found[:: max(1, len(found) // 60)]:
        at, value = one.points[0]
        if axes.low <= value <= axes.high:
            x, y = axes.x(at), axes.y(value)
            yield f'<path class="exemplar" d="M{x:.1f},{y - 4:.1f} l4,4 l-4,4 l-4,-4 z"/>'


def _legend(panel: PanelView, shown: list[Field]) -> str:
    unit, decimals = panel.defaults.get("unit", "short"), panel.defaults.get("decimals")
    summed = panel.custom.get("drawStyle") == "bars"
    items = []
    for field in shown:
        values = field.finite
        figure = "" if not values else written(sum(values) if summed else values[-1], unit, decimals)
        items.append(f"<span>{_swatch(field)}{escape(field.name)} <b>{figure}</b></span>")
    return f'<div class="legend">{"".join(items)}</div>'


# What a legend's table has in its columns, by the names that Grafana gives and sorts by.
_CALCULATIONS: dict[str, tuple[str, Callable[[list[float]], float]]] = {
    "sum": ("Total", sum),
    "max": ("Max", max),
    "mean": ("Mean", lambda values: sum(values) / len(values)),
    "lastNotNull": ("Last *", lambda values: values[-1]),
}


def _figures(panel: PanelView, shown: list[Field], height: int) -> str:
    """Draw the legend as a table, as many rows as fit; in Grafana the others are below them."""
    legend = panel.json["options"]["legend"]
    unit, decimals = panel.defaults.get("unit", "short"), panel.defaults.get("decimals")
    columns = [_CALCULATIONS[name] for name in legend["calcs"]]
    sort = next(calculate for name, calculate in columns if name == legend["sortBy"])
    rows = []
    for field in sorted((field for field in shown if field.finite), key=lambda field: -sort(field.finite)):
        cells = (written(calculate(field.finite), unit, decimals) for _, calculate in columns)
        figures = "".join(f"<td class=n>{cell}</td>" for cell in cells)
        rows.append(f"<tr><td>{_swatch(field)}{escape(field.name)}</td>{figures}</tr>")
    heads = "".join(f"<th class=n>{name}</th>" for name, _ in columns)
    fitting = "".join(rows[: (height - 24) // 21])
    return f'<table class="figures"><tr><th></th>{heads}</tr>{fitting}</table>'


def _swatch(field: Field) -> str:
    return f'<i style="background:{field.color}"></i>'
