"""
The content of a dashboard as data: rows of panels, each with its queries, unit and thresholds.

Titles, descriptions and words in legends are keys of the catalogue. `grafana.builder` looks them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Color = Literal["green", "yellow", "orange", "red", "blue", "gray", "purple", "transparent"]
Steps = tuple[tuple[float, Color], ...]

# Thresholds: the value from which a panel shows a warning, and the value from which it shows an error.
# Units: seconds, jobs, shares of 1.
ANY: Steps = ((1, "red"),)
FAILURE_RATIO: Steps = ((0.05, "yellow"), (0.2, "red"))
# Failed runs of an hour.
FAILURES: Steps = ((1, "orange"), (5, "red"))
# Standard deviations of a Poisson count: by chance alone, 4 is rare and 5 almost impossible.
EXCESS: Steps = ((2, "yellow"), (4, "orange"), (5, "red"))
WAITING: Steps = ((1800, "yellow"), (7200, "red"))
# A job may wait and run for hours. The alerts on stuck jobs have a limit for each job type.
IN_FLIGHT_AGE: Steps = ((21_600, "yellow"), (86_400, "red"))
# Four polls of 30 s; ten, after which the exporter drops a failing target's gauges (metrics.max_age).
DATA_AGE: Steps = ((120, "yellow"), (300, "red"))
# Three, and six, audit intervals of 10 min.
AUDIT_AGE: Steps = ((1800, "yellow"), (3600, "red"))
# The share of the cost that went to runs without a result.
LOST_SHARE: Steps = ((0.1, "yellow"), (0.3, "red"))
# The share of reruns in all runs.
RERUNS: Steps = ((0.1, "yellow"), (0.3, "red"))
# How long a backlog takes to clear: half a shift, a day.
CLEARING: Steps = ((14_400, "yellow"), (86_400, "red"))
FAILED_POLLS: Steps = ((0.05, "yellow"), (0.5, "red"))
CLOCK_SKEW: Steps = ((60, "yellow"), (300, "red"))
# Tokens are renewed half an hour before they expire. With less time left, the renewal has failed.
EXPIRY: Steps = ((600, "yellow"), (1200, "green"))
LOOP_LAG: Steps = ((0.1, "yellow"), (1, "red"))

# The colours of statuses and job types, the same in every panel of every dashboard. Only failures are red or
# orange. The colours of a group differ for every kind of colour vision, on a dark and on a light background:
# tests/test_dashboards.py computes that.
IN_FLIGHT_COLORS = {
    "QUEUING": "#C9B21E",
    "LAUNCHING": "#5BBCE0",
    "RUNNING": "#2F62D9",
    "UPLOADING": "#A442A8",
}
FAILED_COLORS = {
    "SUBMIT_FAILED": "#F0A136",
    "RUN_FAILED": "#D62F1A",
    "UPLOAD_FAILED": "#A33D50",
}
TERMINAL_COLORS = {"FINISHED": "#53C071", "STOPPED": "#A6A6A6", **FAILED_COLORS}
STATUS_COLORS = {**IN_FLIGHT_COLORS, **TERMINAL_COLORS}
JOB_TYPE_COLORS = {
    "FRAME_EXTRACT": "#5786F4",
    "PACKAGE_DELETE": "#A3398E",
    "PACKAGE_IMPORT": "#1EC6EF",
    "SCENARIO_AUTO_MINING": "#6F2AF0",
    "SCENARIO_EXTRACT": "#50C58F",
    "SCENARIO_TO_SIM": "#B8B91A",
}

# "series": a different colour for each series; the others: shades of one colour.
Palette = Literal["series", "failures", "warnings"]
SHADES: dict[Palette, str] = {"failures": "#D62F1A", "warnings": "#F0A136"}

# The API's HTTP statuses: success, throttled or refused, failed.
HTTP_COLORS = {"^2": "#53C071", "^4": "#F0A136", "^(5|error)": "#D62F1A"}

# Counts over time: at least ten polls to a bar.
BAR_INTERVAL = "5m"
# For values over the past hour: they change slowly, and such a query is expensive.
HOURLY_INTERVAL = "2m"


@dataclass(frozen=True, slots=True)
class Query:
    """
    One query of a panel.

    Shape: `legend` is in Grafana's form, as `{{status}}`. `word` is a key below the panel's: its text
    replaces the legend or, in a table, is the heading of the column. `unit`, `decimals`, `steps` and
    `failures` belong to a table's column; see Panel.
    """

    expression: str
    legend: str = ""
    word: str = ""
    exemplars: bool = False
    dashed: bool = False
    strong: bool = False
    unit: str = ""
    decimals: int | None = None
    steps: Steps = ()
    failures: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    A panel of any kind.

    Shape: `key` is the key of its texts. `steps` are thresholds; `base` is the colour below the first.
    `width` is in columns of 24. `interval` is the smallest step, by default the poll interval. `failures` are
    the labels of a series that a link to its failures on the status page filters by; None for no link.
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
    One number, coloured by its thresholds.

    Shape: `trend` adds a small graph of its past, for a number that always has a value. Without it, the
    number is that at the end of the time range, or a dash if there is none at that time.
    """

    width: int = 3
    height: int = 4
    trend: bool = True
    fallback: str = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSeries(Panel):
    """
    Values over time: lines, stacked areas, or stacked bars.

    Shape: `limits` draws the thresholds as lines. `logarithmic` is for values of very different sizes.
    `centered` puts zero in the middle, with a line. `figures` puts the legend as a table beside the graph.
    """

    style: Literal["lines", "areas", "bars"] = "lines"
    limits: bool = False
    logarithmic: bool = False
    centered: bool = False
    figures: bool = False
    palette: Palette = "series"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap(Panel):
    """The observations in each bucket of a histogram, over time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarGauge(Panel):
    """The present values side by side, the greatest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTimeline(Panel):
    """
    One line of coloured states for each series.

    Shape: `states` are keys of the words for the values 0, 1 and so on; without them, thresholds are shown.
    """

    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Panel):
    """
    Present values in rows, one column for each query.

    Shape: `by` are the labels that identify a row; they are the first columns. `links` has the URLs of such
    columns. `sort` is the word of the query to sort by, the greatest first.
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

    Shape: `name` is part of file names, uids and keys. `since` is the start of its time range. `filters` are
    the labels of its variables, beside the exporter's. `prices` adds the prices of resources to the
    variables. `logs` adds a row of logs from Loki.
    """

    name: str
    since: str
    rows: tuple[Row, ...]
    filters: tuple[str, ...] = ("project", "workspace", "job_type")
    prices: bool = False
    logs: bool = False

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)
