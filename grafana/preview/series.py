"""The series of a panel as Grafana shows them: their names, colours, and values at every step."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from grafana.preview.queries import QueryResult, Series, Window
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
    "transparent": "transparent",
}
# Grafana's color mode "shades": the number of shades on each side, and the strongest change.
_SHADES, _MOST_CHANGE = 6, 0.35
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Field:
    """One named series. Shape: a value is None where the query returned none, or not a finite one."""

    name: str
    color: str
    times: list[float]
    values: list[float | None]

    @property
    def finite(self) -> list[float]:
        return [value for value in self.values if value is not None]


def fields(panel: PanelView, results: list[QueryResult], window: Window) -> list[Field]:
    """Name and colour all series of a panel, in the order in which Grafana counts them."""
    made: list[Field] = []
    for result in results:
        times = [float(at) for at in window.steps(result.step)]
        for series in result.series:
            name, points = name_of(result.target, series), dict(series.points)
            shown = list(points) if result.target.instant else times
            values = [value if math.isfinite(value := points.get(at, math.nan)) else None for at in shown]
            made.append(Field(name, color_of(panel, name, len(made)), shown, values))
    return made


def name_of(target: Target, series: Series) -> str:
    """Fill in the legend's format, in which `{{label}}` stands for a label's value."""
    return _LABEL.sub(lambda found: series.labels.get(found[1], ""), target.legend).strip()


def color_of(panel: PanelView, name: str, number: int) -> str:
    """Return the CSS colour of the series with this name and this number in the panel."""
    color = panel.override(name, "color") or panel.defaults.get("color", {})
    match color.get("mode"):
        case "fixed":
            return str(color["fixedColor"])
        case "shades":
            return _shade(color["fixedColor"], number)
        case "palette-classic-by-name":
            return PALETTE[_hash(name) % len(PALETTE)]
    return PALETTE[number % len(PALETTE)]


def _shade(color: str, number: int) -> str:
    """Return the shade of a colour for this number: brighter and darker ones alternate."""
    place = number % (2 * _SHADES - 1)
    change = (place + 1) // 2 / _SHADES * _MOST_CHANGE
    return f"color-mix(in srgb, {'white' if place % 2 else 'black'} {change:.1%}, {color})"


def _hash(name: str) -> int:
    """Hash a name as Grafana does to choose its colour."""
    hashed = 5381
    for letter in reversed(name):
        hashed = (hashed * 33) ^ ord(letter)
    return hashed & 0xFFFFFFFF


def level_color(steps: list[dict[str, Any]], value: float) -> str:
    """Return the colour of a value by thresholds: that of the highest step it reaches."""
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLORS[reached[-1]["color"]]
