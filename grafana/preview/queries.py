"""
The queries of a panel: filled in as Grafana does, and sent to Prometheus over its HTTP API.

Source: Grafana's documentation of its global variables and of the Prometheus query editor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from grafana.preview.view import PanelView, Target, seconds

# The steps that Grafana rounds to, in seconds.
_STEPS = (
    *(1, 2, 5, 10, 15, 20, 30, 60, 120, 300),
    *(600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400),
)
# Not $1: that is the group of a pattern in label_replace(), and Grafana leaves it as it is.
_VARIABLE = re.compile(r"\$([a-z_]\w*)|\$\{(\w+)(?::\w+)?\}")
_TIMEOUT_SECONDS = 60.0
# Prometheus usually runs on this machine: a proxy from the environment could not reach it there.
_OPENER = build_opener(ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Window:
    """
    The time range of a picture.

    Units: seconds. `scrape` is the scrape interval in the data source's settings; `points` is the number of
    points that a panel of the whole width asks for.
    """

    start: float
    end: float
    scrape: int = 30
    points: int = 1200

    @property
    def length(self) -> int:
        return round(self.end - self.start)

    def steps(self, step: int) -> range:
        """Return the times of a range query. Grafana aligns them to multiples of the step."""
        return range(int(self.start // step * step), int(self.end // step * step) + 1, step)


@dataclass(frozen=True, slots=True)
class FilledQuery:
    """A query as Prometheus gets it. Units: `step` in seconds."""

    expression: str
    step: int


def fill_query(panel: PanelView, target: Target, window: Window, chosen: Mapping[str, str]) -> FilledQuery:
    """Fill in a panel's query for this time range and these values of the variables."""
    points = panel.most_points or window.points * panel.place[2] / 24
    least = seconds(target.interval or panel.interval or f"{window.scrape}s")
    step = next((step for step in _STEPS if step >= least and step >= window.length / points), _STEPS[-1])
    scrape = seconds(target.interval) if target.interval else window.scrape
    return FilledQuery(fill_variables(target.expression, chosen, window, step, scrape), step)


def fill_variables(expression: str, chosen: Mapping[str, str], window: Window, step: int, scrape: int) -> str:
    """Replace all variables by their values. Raises: KeyError for an unknown variable."""
    values = {
        **chosen,
        "__interval": f"{step}s",
        "__interval_ms": str(step * 1000),
        "__rate_interval": f"{max(step + scrape, 4 * scrape)}s",
        "__range": f"{window.length}s",
        "__range_s": str(window.length),
    }
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)


class QueryError(Exception):
    """Prometheus refused a query. The message holds its answer and the query."""


@dataclass(frozen=True, slots=True)
class Series:
    """Labels, and (time, value) points. Units: Unix seconds."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus server, by its URL. All methods raise QueryError, and OSError if it does not answer."""

    url: str

    def instant(self, expression: str, at: float) -> list[Series]:
        data = self._get("query", {"query": expression, "time": at})
        if data["resultType"] == "scalar":
            return [Series({}, _points([data["result"]]))]
        return [Series(one["metric"], _points([one["value"]])) for one in data["result"]]

    def range(self, expression: str, start: float, end: float, step: int) -> list[Series]:
        times = Window(start, end).steps(step)
        bounds = {"start": times[0], "end": times[-1], "step": step}
        data = self._get("query_range", {"query": expression, **bounds})
        return [Series(one["metric"], _points(one["values"])) for one in data["result"]]

    def exemplars(self, expression: str, start: float, end: float) -> list[Series]:
        """Return the exemplars of the series in an expression: one Series with one point for each."""
        data = self._get("query_exemplars", {"query": expression, "start": start, "end": end})
        return [
            Series(
                {**one["seriesLabels"], **exemplar["labels"]},
                _points([(exemplar["timestamp"], exemplar["value"])]),
            )
            for one in data
            for exemplar in one["exemplars"]
        ]

    def label_values(self, selector: str, label: str, start: float, end: float) -> list[str]:
        data = self._get(f"label/{label}/values", {"match[]": selector, "start": start, "end": end})
        return [str(value) for value in data]

    def _get(self, path: str, parameters: Mapping[str, object]) -> Any:
        url = f"{self.url}/api/v1/{path}?{urlencode(parameters)}"
        try:
            with _OPENER.open(url, timeout=_TIMEOUT_SECONDS) as response:
                return json.load(response)["data"]
        except HTTPError as exc:
            body = exc.read().decode(errors="replace")
            raise QueryError(f"{path}: {exc.code} {body}\n{dict(parameters)}") from exc


def _points(values: list[Any]) -> tuple[tuple[float, float], ...]:
    return tuple((float(at), float(value)) for at, value in values)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The series and exemplars that one query of a panel returned. Units: `step` in seconds."""

    target: Target
    expression: str
    step: int
    series: list[Series]
    exemplars: list[Series]


def run_queries(
    panel: PanelView, prometheus: Prometheus, window: Window, chosen: Mapping[str, str]
) -> list[QueryResult]:
    """Run all queries of a panel. Raises: QueryError; OSError."""
    results = []
    for target in panel.targets:
        query = fill_query(panel, target, window, chosen)
        if target.instant:
            series = prometheus.instant(query.expression, window.end)
        else:
            series = prometheus.range(query.expression, window.start, window.end, query.step)
        exemplars = (
            prometheus.exemplars(query.expression, window.start, window.end) if target.exemplars else []
        )
        results.append(QueryResult(target, query.expression, query.step, series, exemplars))
    return results
