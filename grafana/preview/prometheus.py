"""What a Prometheus answers, over its HTTP API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

_TIMEOUT_SECONDS = 60.0
# Prometheus may be on this machine, where no proxy has any business.
_OPENER = build_opener(ProxyHandler({}))


class QueryError(Exception):
    """Prometheus refused a query; the message has both."""


@dataclass(frozen=True, slots=True)
class Series:
    """Labels, and values by time in Unix seconds."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server, by its URL. Its methods raise QueryError, and OSError where it does not answer."""

    url: str

    def instant(self, expression: str, at: float) -> list[Series]:
        found = self._data("query", {"query": expression, "time": at})
        if found["resultType"] == "scalar":
            return [Series({}, _points([found["result"]]))]
        return [Series(one["metric"], _points([one["value"]])) for one in found["result"]]

    def range(self, expression: str, start: float, end: float, step: int) -> list[Series]:
        # Steps begin at whole multiples of themselves, as Grafana has it.
        bounds = {"start": start // step * step, "end": end // step * step, "step": step}
        found = self._data("query_range", {"query": expression, **bounds})
        return [Series(one["metric"], _points(one["values"])) for one in found["result"]]

    def exemplars(self, expression: str, start: float, end: float) -> list[Series]:
        """Give the exemplars of the series in an expression, by their own labels."""
        found = self._data("query_exemplars", {"query": expression, "start": start, "end": end})
        return [
            Series(
                {**one["seriesLabels"], **exemplar["labels"]},
                _points([(exemplar["timestamp"], exemplar["value"])]),
            )
            for one in found
            for exemplar in one["exemplars"]
        ]

    def label_values(self, selector: str, label: str, start: float, end: float) -> list[str]:
        found = self._data(f"label/{label}/values", {"match[]": selector, "start": start, "end": end})
        return [str(value) for value in found]

    def _data(self, path: str, parameters: Mapping[str, object]) -> Any:
        try:
            with _OPENER.open(
                f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=_TIMEOUT_SECONDS
            ) as answer:
                return json.load(answer)["data"]
        except HTTPError as exc:
            said = exc.read().decode(errors="replace")
            raise QueryError(f"{path}: {exc.code} {said}\n{dict(parameters)}") from exc


def _points(values: list[Any]) -> tuple[tuple[float, float], ...]:
    return tuple(_numbers(values))


def _numbers(values: list[Any]) -> Iterator[tuple[float, float]]:
    for at, value in values:
        yield float(at), float(value)
