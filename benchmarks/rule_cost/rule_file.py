"""The rules of a file, and the parts of the past that they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from exporter.config.durations import parse_duration

# The maximum age of the sample that an instant selector takes.
LOOKBACK_SECONDS = 300.0
_CHILDREN = ("expr", "param", "lhs", "rhs")


@dataclass(frozen=True, slots=True)
class Reach:
    """
    The part of the past that one selector reads.

    Units: seconds before the evaluation; `near` is negative if it reads the future.
    """

    name: str
    near: float
    far: float

    @property
    def is_history(self) -> bool:
        """Tell whether a newly started server lacks a part of it."""
        return self.near > 0 or self.far > LOOKBACK_SECONDS


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `interval` in seconds. `name` is the recorded series' or the alert's."""

    group: str
    interval: float
    name: str
    is_record: bool
    expression: str
    labels: dict[str, str] = field(default_factory=dict)

    def reaches(self) -> list[Reach]:
        return list(_reaches(promql_parser.parse(self.expression)))


def rules_of(file: Path, default_interval: float) -> list[Rule]:
    """Read a rule file, in its order."""
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    return [_rule(group, rule, default_interval) for group in groups for rule in group["rules"]]


def _rule(group: dict[str, Any], rule: dict[str, Any], default_interval: float) -> Rule:
    interval = parse_duration(group["interval"]) if "interval" in group else default_interval
    name = rule.get("record") or rule["alert"]
    return Rule(group["name"], interval, name, "record" in rule, rule["expr"], rule.get("labels", {}))


def spans(rules: Iterable[Rule], name: str, margin: float, lasts: float) -> list[tuple[float, float]]:
    """
    Return the parts of a series' past that evaluations read from now until `lasts` seconds later.

    Units: seconds before now, the nearer end first, with a margin on both sides.
    """
    found = sorted(
        (max(0.0, reach.near - lasts - margin), reach.far + margin)
        for rule in rules
        for reach in rule.reaches()
        if reach.name == name and reach.is_history
    )
    merged: list[tuple[float, float]] = []
    for near, far in found:
        if merged and near <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(far, merged[-1][1]))
        else:
            merged.append((near, far))
    return merged


def depths(rules: list[Rule], past: float) -> dict[str, float]:
    """
    Return how far back each series must exist for the rules, and for the series they were computed from.

    Shape: without series of which only the newest sample is read. Units: seconds; `past` is the maximum.
    """
    found: dict[str, float] = {}
    changed = True
    while changed:
        changed = False
        for rule in rules:
            behind = found.get(rule.name, 0.0) if rule.is_record else 0.0
            for reach in rule.reaches():
                depth = min(behind + reach.far, past)
                if (behind or reach.is_history) and depth > found.get(reach.name, 0.0):
                    found[reach.name] = depth
                    changed = True
    return found


def in_order(rules: list[Rule], names: Iterable[str]) -> list[list[Rule]]:
    """
    Sort the rules that record these names so that each comes after those it reads.

    Shape: each list holds all rules that record one name. In a cycle, one is computed without the other.
    """
    by_name: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.is_record:
            by_name.setdefault(rule.name, []).append(rule)
    ordered: dict[str, list[Rule]] = {}

    def add(name: str, above: frozenset[str] = frozenset()) -> None:
        if name not in by_name or name in ordered or name in above:
            return
        for rule in by_name[name]:
            for reach in rule.reaches():
                add(reach.name, above | {name})
        ordered[name] = by_name[name]

    for name in names:
        add(name)
    return [ordered[name] for name in ordered if name in set(names)]


def _reaches(node: object, later: float = 0.0, wider: float = 0.0) -> Iterator[Reach]:
    """Walk an expression; `later` and `wider` are the offsets and ranges of the subqueries around it."""
    if isinstance(node, promql_parser.SubqueryExpr):
        later, wider = later + _seconds(node.offset), wider + _seconds(node.range)
    if isinstance(node, promql_parser.MatrixSelector):
        yield _reach(node.vector_selector, later, wider, _seconds(node.range))
    elif isinstance(node, promql_parser.VectorSelector):
        yield _reach(node, later, wider, LOOKBACK_SECONDS)
    else:
        children = [getattr(node, name, None) for name in _CHILDREN]
        for child in (*children, *(getattr(node, "args", None) or ())):
            if child is not None:
                yield from _reaches(child, later, wider)


def _reach(selector: promql_parser.VectorSelector, later: float, wider: float, range_: float) -> Reach:
    near = later + _seconds(selector.offset)
    return Reach(selector.name or "", near, near + wider + range_)


def _seconds(duration: Any) -> float:
    return duration.total_seconds() if duration is not None else 0.0
