"""
What Grafana makes of a query before it asks: variables and steps filled in.

Source: Grafana's documentation of its global variables and of the Prometheus query editor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from grafana.preview.view import PanelView, Target, seconds

# The steps that Grafana rounds to, in seconds.
_STEPS = (
    *(1, 2, 5, 10, 15, 20, 30, 60, 120, 300),
    *(600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400),
)
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True, slots=True)
class Window:
    """
    The time that is shown.

    Units: seconds; `scrape` is what the data source says that Prometheus scrapes by; `points` is how many a
    panel of the whole width takes.
    """

    start: float
    end: float
    scrape: int = 30
    points: int = 1200

    @property
    def length(self) -> int:
        return round(self.end - self.start)


@dataclass(frozen=True, slots=True)
class Asked:
    """A query as Prometheus is asked it. Units: seconds."""

    expression: str
    step: int


def asked(panel: PanelView, target: Target, window: Window, chosen: Mapping[str, str]) -> Asked:
    """Fill a panel's query in for this window and these choices."""
    points = panel.most_points or window.points * panel.place[2] / 24
    least = seconds(target.interval or panel.interval or f"{window.scrape}s")
    step = next((step for step in _STEPS if step >= least and step >= window.length / points), _STEPS[-1])
    scrape = seconds(target.interval) if target.interval else window.scrape
    return Asked(fill(target.expression, chosen, window, step, scrape), step)


def fill(expression: str, chosen: Mapping[str, str], window: Window, step: int, scrape: int) -> str:
    """Put values in the place of variables. Raises: KeyError for one that nobody knows."""
    values = {
        **chosen,
        "__interval": f"{step}s",
        "__interval_ms": str(step * 1000),
        "__rate_interval": f"{max(step + scrape, 4 * scrape)}s",
        "__range": f"{window.length}s",
        "__range_s": str(window.length),
    }
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)
