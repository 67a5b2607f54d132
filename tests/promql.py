"""The metrics and labels that a PromQL expression uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser

from exporter.exposition.families import FAMILIES

# Labels that Prometheus adds to every scraped sample.
SCRAPED = {"job", "instance"}

_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
LABELS_OF = {
    family.name + suffix: {*family.labels, *SCRAPED, *(("le",) if suffix == "_bucket" else ())}
    for family in FAMILIES
    for suffix in _SUFFIXES[family.type]
}
"""The labels of every sample of the exporter, by the sample's name."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric's name and the matchers on it, as (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    @property
    def labels(self) -> set[str]:
        return {label for label, _, _ in self.matchers}

    @property
    def wrong_labels(self) -> set[str]:
        """Labels that a sample of the exporter does not have."""
        return self.labels - LABELS_OF[self.name]


def selectors(expression: str) -> list[Selector]:
    """Return every selector in an expression. Raises: ValueError if it is not PromQL."""
    return [
        Selector(node.name or "", tuple((one.name, str(one.op), one.value) for one in node.matchers.matchers))
        for node in nodes(promql_parser.parse(expression))
        if isinstance(node, promql_parser.VectorSelector)
    ]


def grouping(expression: str) -> set[str]:
    """Return the labels that an expression aggregates by or matches on. Raises: ValueError."""
    labels: set[str] = set()
    for node in nodes(promql_parser.parse(expression)):
        modifier = getattr(node, "modifier", None)
        for part in (modifier, getattr(modifier, "matching", None)):
            labels |= {*(getattr(part, "labels", None) or ()), *(getattr(part, "group_labels", None) or ())}
    return labels


def made(expression: str) -> set[str]:
    """Return the labels that an expression makes by label_replace or label_join. Raises: ValueError."""
    calls = (node for node in nodes(promql_parser.parse(expression)) if isinstance(node, promql_parser.Call))
    return {call.args[1].val for call in calls if call.func.name in {"label_replace", "label_join"}}


def nodes(node: object, *, around: tuple[str, ...] = ()) -> Iterator[object]:
    """Walk an expression's tree, but not into aggregations such as max."""
    if isinstance(node, promql_parser.AggregateExpr) and str(node.op) in around:
        return
    yield node
    children = [getattr(node, name, None) for name in ("expr", "param", "lhs", "rhs", "vector_selector")]
    for child in (*children, *(getattr(node, "args", None) or ())):
        if child is not None:
            yield from nodes(child, around=around)
