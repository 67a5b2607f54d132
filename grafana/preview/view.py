"""The JSON of a committed dashboard: the parts that the previews and the tests use."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A query of a panel. Units: `interval`, its smallest step, in Grafana's form; "" for the panel's."""

    expression: str
    legend: str
    ref_id: str
    instant: bool
    exemplars: bool
    interval: str


@dataclass(frozen=True)
class PanelView:
    """A panel, or the heading of a row (type "row")."""

    json: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.json["type"])

    @property
    def title(self) -> str:
        return str(self.json["title"])

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in the grid."""
        at = self.json["gridPos"]
        return at["x"], at["y"], at["w"], at["h"]

    @property
    def interval(self) -> str:
        return str(self.json.get("interval", ""))

    @property
    def most_points(self) -> int | None:
        """The number of steps the panel asks for, if that does not depend on its width."""
        most: int | None = self.json.get("maxDataPoints")
        return most

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        return tuple(
            Target(
                expression=target["expr"],
                legend=target["legendFormat"],
                ref_id=target["refId"],
                instant=target["instant"],
                exemplars=target.get("exemplar", False),
                interval=target.get("interval", ""),
            )
            for target in self.json.get("targets", ())
        )

    @property
    def defaults(self) -> dict[str, Any]:
        defaults: dict[str, Any] = self.json.get("fieldConfig", {}).get("defaults", {})
        return defaults

    def config(self, name: str) -> dict[str, Any]:
        """Return the settings of the field with this name: the panel's, with its overrides in their order."""
        custom = self.defaults.get("custom", {})
        changed = {
            one["id"].removeprefix("custom."): one["value"]
            for override in self.json["fieldConfig"]["overrides"]
            if _matches(override["matcher"], name)
            for one in override["properties"]
        }
        return {**self.defaults, **custom, **changed}


def _matches(matcher: dict[str, str], name: str) -> bool:
    if matcher["id"] == "byRegexp":
        return re.search(matcher["options"][1:-1], name) is not None
    return matcher["options"] == name


@dataclass(frozen=True)
class DashboardView:
    """A whole dashboard."""

    json: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> DashboardView:
        return cls(json.loads(file.read_text(encoding="utf-8")))

    def cut(self, rows: int) -> DashboardView:
        """Return the dashboard with only its first rows."""
        heads = [number for number, panel in enumerate(self.panels) if panel.type == "row"]
        last = heads[rows] if rows < len(heads) else len(self.panels)
        return DashboardView({**self.json, "panels": self.json["panels"][:last]})

    @property
    def title(self) -> str:
        return str(self.json["title"])

    @property
    def uid(self) -> str:
        return str(self.json["uid"])

    @cached_property
    def panels(self) -> tuple[PanelView, ...]:
        return tuple(map(PanelView, self.json["panels"]))

    @property
    def range_seconds(self) -> int:
        """The length of the default time range."""
        return seconds(self.json["time"]["from"].removeprefix("now-"))

    @property
    def variables(self) -> dict[str, str]:
        """The queries of the visible variables, by name, in their order."""
        return {one["name"]: one["query"] for one in self._queried if "hide" not in one}

    @property
    def derived(self) -> dict[str, str]:
        """The queries of the hidden variables, which are computed from the visible ones."""
        return {one["name"]: one["query"] for one in self._queried if "hide" in one}

    @property
    def everything(self) -> dict[str, str]:
        """The value of All of each visible variable, and the default of each that is a text."""
        everything = {one["name"]: one["allValue"] for one in self._queried if "hide" not in one}
        return {**everything, **self.boxes}

    @property
    def boxes(self) -> dict[str, str]:
        """The defaults of the variables that are texts, such as prices, by name."""
        listed = self.json["templating"]["list"]
        return {one["name"]: one["query"] for one in listed if one["type"] == "textbox"}

    @property
    def _queried(self) -> list[dict[str, Any]]:
        return [one for one in self.json["templating"]["list"] if one["type"] == "query"]

    @property
    def annotations(self) -> dict[str, str]:
        return {one["name"]: one["expr"] for one in self.json["annotations"]["list"]}


def seconds(duration: str) -> int:
    """Read a duration in Grafana's form, as 30s, 5m or 12h."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[duration[-1]]
