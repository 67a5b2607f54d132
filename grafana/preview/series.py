"""The fields of a panel, as Grafana gives them to it: named, coloured, with their settings and values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from grafana.preview.queries import QueryResult, Window
from grafana.preview.view import PanelView

PALETTE = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF9830", "#F2495C", "#5794F2", "#B877D9", "#37872D"),
    *("#FADE2A", "#14A5A5", "#FFA6B0", "#A352CC"),
)
# Grafana's color mode "shades": the number of shades on each side, and the strongest change.
_SHADES, _MOST_CHANGE = 6, 0.35
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Field:
    """
    A series, or a column of a table. `config` holds the panel's settings with the overrides of this name.

    Shape: a value is None where the query returned none, or not a finite one.
    """

    name: str
    config: dict[str, Any]
    values: list[Any]
    times: list[float]
    color: str = ""


def fields(panel: PanelView, results: list[QueryResult], window: Window) -> list[Field]:
    """Return the series of a panel that have a value, coloured in the order in which Grafana counts all."""
    made: list[Field] = []
    for result in results:
        for series in result.series:
            # In the legend's format `{{label}}` stands for the value of a label.
            name = _LABEL.sub(lambda found: series.labels.get(found[1], ""), result.target.legend).strip()  # noqa: B023
            points = dict(series.points)
            times = [*points] if result.target.instant else [float(at) for at in window.steps(result.step)]
            values = [_finite(points.get(at)) for at in times]
            made.append(Field(name, panel.config(name), values, times, color_of(panel, name, len(made))))
    return [field for field in made if any(value is not None for value in field.values)]


def columns(panel: PanelView, results: list[QueryResult]) -> list[Field]:
    """Return the columns of a table in the panel's order, with one row for each set of labels."""
    organize = panel.json["transformations"][1]["options"]
    names = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    labels = [name for name in names if not name.startswith("Value")]
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for result in results:
        column = f"Value #{result.target.ref_id}" if len(results) > 1 else "Value"
        for one in result.series:
            cells = {name: one.labels.get(name, "") for name in labels}
            rows.setdefault(tuple(cells.values()), cells)[column] = _finite(one.last)
    heads = {name: organize["renameByName"][name] for name in names}
    sort = next(name for name in names if heads[name] == panel.json["options"]["sortBy"][0]["displayName"])
    ordered = sorted(
        (rows[key] for key in sorted(rows)),
        key=lambda row: -math.inf if row.get(sort) is None else row[sort],
        reverse=True,
    )
    return [
        Field(head, panel.config(head), [row.get(name) for row in ordered], [])
        for name, head in heads.items()
    ]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def color_of(panel: PanelView, name: str, number: int) -> str:
    """Return the CSS colour of the series with this name and this number in the panel."""
    color = panel.config(name).get("color", {})
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
