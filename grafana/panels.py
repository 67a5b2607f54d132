"""
What is on a dashboard, as data: rows of panels, each with its queries, unit and levels.

Titles, descriptions and words in legends are keys of the catalogue; `grafana.drawing` looks them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Color = Literal["green", "yellow", "orange", "red", "blue", "gray", "purple", "transparent"]
Steps = tuple[tuple[float, Color], ...]

# Counts over time: at least ten polls to a bar.
BAR_INTERVAL = "5m"
# What is counted over the hour before does not change faster than this, and costs a lot to ask for.
HOURLY_INTERVAL = "2m"


@dataclass(frozen=True, slots=True)
class Query:
    """
    One query of a panel.

    Shape: `legend` is in Grafana's form, as `{{status}}`; `word` is a key below the panel's, whose text is
    taken in its place or, in a table, heads the column; `unit` and `steps` are those of a table's column.
    """

    expression: str
    legend: str = ""
    word: str = ""
    exemplars: bool = False
    dashed: bool = False
    unit: str = ""
    steps: Steps = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    A panel of any kind.

    Shape: `key` names its texts; `base` is the colour below the first of the `steps`; `width` is of 24;
    `interval` is the least step, the poll interval where none is given.
    """

    key: str
    queries: tuple[Query, ...]
    unit: str
    width: int = 8
    height: int = 8
    steps: Steps = ()
    base: Color = "green"
    decimals: int | None = None
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat(Panel):
    """One number, coloured by its level; `trend` draws its course behind it."""

    width: int = 4
    height: int = 4
    trend: bool = True
    fallback: str = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Panel):
    """
    Values over time, as lines, areas that add up, or bars that do.

    Shape: `limits` draws the steps as lines; `logarithmic` is for values of which some are a thousand others.
    """

    style: Literal["lines", "areas", "bars"] = "lines"
    limits: bool = False
    logarithmic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap(Panel):
    """How often which value was observed, over time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars(Panel):
    """The present values side by side, the greatest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(Panel):
    """
    One line of coloured states for each series.

    Shape: `states` are words for 0, 1 and so on, where the values are no measure.
    """

    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Panel):
    """
    Present values in rows, one column for each query.

    Shape: `by` are the labels that make a row, shown first; `links` says where such a cell leads; `sort` is
    the word of the query to sort by, the greatest first.
    """

    by: tuple[str, ...]
    sort: str
    links: tuple[tuple[str, str], ...] = ()
    width: int = 24


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    key: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """
    A dashboard: its name in files, uids and the catalogue, how far it looks back, and its rows.

    Shape: `logs` if a row of logs from Loki follows.
    """

    name: str
    since: str
    rows: tuple[Row, ...]
    logs: bool = False

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)
