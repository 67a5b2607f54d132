"""What Prometheus answers to a panel: every query filled in as Grafana does, and asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grafana.preview.filling import Window, asked
from grafana.preview.prometheus import Prometheus, Series
from grafana.preview.view import DashboardView, PanelView, Target


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found. Units: `step` in seconds; exemplars one point each, by their own labels."""

    target: Target
    expression: str
    step: int
    series: list[Series]
    exemplars: list[Series]


def all_chosen(dashboard: DashboardView) -> dict[str, str]:
    """Choose everything in every variable."""
    return dashboard.everything


def answers(
    panel: PanelView, prometheus: Prometheus, window: Window, chosen: Mapping[str, str]
) -> list[Answer]:
    """Ask all queries of a panel. Raises: QueryError; OSError."""
    return [_answer(panel, target, prometheus, window, chosen) for target in panel.targets]


def _answer(
    panel: PanelView, target: Target, prometheus: Prometheus, window: Window, chosen: Mapping[str, str]
) -> Answer:
    query = asked(panel, target, window, chosen)
    if target.instant:
        series = prometheus.instant(query.expression, window.end)
    else:
        series = prometheus.range(query.expression, window.start, window.end, query.step)
    exemplars = prometheus.exemplars(query.expression, window.start, window.end) if target.exemplars else []
    return Answer(target, query.expression, query.step, series, exemplars)
