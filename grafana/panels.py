"""
What is on a dashboard, as data: rows of panels, each with its queries, unit and levels.

Titles, descriptions and words in legends are keys of the catalogue; `grafana.drawing` looks them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grafana.colors import Palette

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
    taken in its place or, in a table, heads the column; `unit`, `steps` and `failures` are those of a table's
    column, the last as a panel's.
    """

    expression: str
    legend: str = ""
    word: str = ""
    exemplars: bool = False
    dashed: bool = False
    strong: bool = False
    unit: str = ""
    steps: Steps = ()
    failures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    A panel of any kind.

    Shape: `key` names its texts; `base` is the colour below the first of the `steps`; `width` is of 24;
    `interval` is the least step, the poll interval where none is given; `failures` are the labels of a series
    by which a click leads to its failures on the status page, None for no such link.
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
    failures: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat(Panel):
    """
    One number, coloured by its level.

    Shape: `trend` draws its course behind it, for a number that there always is. Without, it is as of the end
    of the shown time exactly, and a dash where there is none then.
    """

    width: int = 3
    height: int = 4
    trend: bool = True
    fallback: str = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Panel):
    """
    Values over time, as lines, areas that add up, or bars that do.

    Shape: `limits` draws the steps as lines; `logarithmic` is for values of which some are a thousand others;
    `centered` puts zero in the middle, with a line; `figures` lists the series in a table beside the graph.
    """

    style: Literal["lines", "areas", "bars"] = "lines"
    limits: bool = False
    logarithmic: bool = False
    centered: bool = False
    figures: bool = False
    palette: Palette = "series"


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
    A dashboard.

    Shape: `name` in files, uids and the catalogue; `since` is how far it looks back; `filters` are the labels
    that its variables choose by, beside the exporter's; `logs` if a row of logs from Loki follows.
    """

    name: str
    since: str
    rows: tuple[Row, ...]
    filters: tuple[str, ...] = ("project", "workspace", "job_type")
    logs: bool = False

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)
