"""Binary operators and aggregations over vectors. Source: promql/engine.go of Prometheus 2.42."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.alerts.engine.ranges import quantile
from benchmarks.alerts.engine.vectors import (
    NAME,
    Bools,
    EvaluationError,
    Floats,
    Labels,
    Vector,
    changed,
    check_single,
    grouped,
    joined,
    merged,
    only,
    spelled,
    without,
)

ARITHMETIC: dict[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
}
COMPARISONS: dict[str, Callable[[Floats, Floats], Bools]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
SETS = {"and", "or", "unless"}
SUPPORTED = {*ARITHMETIC, *COMPARISONS, *SETS}


@dataclass(frozen=True, slots=True)
class Matching:
    """Which series match. `many`: "left" or "right" if several series of this side may match one, else ""."""

    on: bool = False
    labels: frozenset[str] = frozenset()
    many: str = ""
    included: tuple[str, ...] = ()

    def signature(self, labels: Labels) -> Labels:
        return only(labels, self.labels) if self.on else without(labels, self.labels | {NAME})


def scalars(op: str, left: Floats, right: Floats) -> Floats:
    if op in ARITHMETIC:
        return ARITHMETIC[op](left, right)
    return COMPARISONS[op](left, right).astype(np.float64)


def with_scalar(op: str, vector: Vector, scalar: Floats, *, scalar_is_left: bool, as_bool: bool) -> Vector:
    left, right = (scalar, vector.values) if scalar_is_left else (vector.values, scalar)
    if op in ARITHMETIC:
        return vector.with_values(ARITHMETIC[op](left, right))
    keep = COMPARISONS[op](left, right)
    if as_bool:
        return vector.with_values(keep.astype(np.float64))
    return replace(vector, present=vector.present & keep)


def vectors(op: str, left: Vector, right: Vector, matching: Matching, *, as_bool: bool) -> Vector:
    many, one = (right, left) if matching.many == "right" else (left, right)
    ones = grouped(matching.signature(labels) for labels in one.labels)
    many_is_there = many.present.any(axis=0)
    for signature, rows in ones.items():
        there = one.present[rows] & many_is_there
        check_single(there, f"several series on the `one` side match {spelled(signature)}")
    signatures = [matching.signature(labels) for labels in many.labels]
    pairs = [(row, other) for row, key in enumerate(signatures) for other in ones.get(key, ())]
    if not pairs:
        return joined((), left.values.shape[1])
    many_rows, one_rows = [row for row, _ in pairs], [row for _, row in pairs]
    many, one = many.rows(many_rows), one.rows(one_rows)
    left, right = (one, many) if matching.many == "right" else (many, one)
    values, keep = _computed(op, left.values, right.values, as_bool)
    present = many.present & one.present & keep
    if not matching.many:
        for signature, rows in grouped(signatures[row] for row in many_rows).items():
            check_single(present[rows], f"several series on the left match {spelled(signature)}")
    dropped = op in ARITHMETIC or as_bool
    labels = [_result_labels(a, b, matching, dropped) for a, b in zip(many.labels, one.labels, strict=True)]
    return merged(labels, values, present)


def _computed(op: str, left: Floats, right: Floats, as_bool: bool) -> tuple[Floats, Bools]:
    if op in ARITHMETIC:
        return ARITHMETIC[op](left, right), np.array(True)
    keep = COMPARISONS[op](left, right)
    if as_bool:
        return keep.astype(np.float64), np.array(True)
    return left, keep


def _result_labels(many: Labels, one: Labels, matching: Matching, drops_name: bool) -> Labels:
    labels = without(many, {NAME}) if drops_name else many
    if not matching.many:
        labels = only(labels, matching.labels) if matching.on else without(labels, matching.labels)
    values = dict(one)
    return changed(labels, {name: values.get(name, "") for name in matching.included})


def sets(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    lefts = grouped(matching.signature(labels) for labels in left.labels)
    rights = grouped(matching.signature(labels) for labels in right.labels)
    if op == "or":
        return joined((left, _unmatched(right, rights, left, lefts)), left.values.shape[1])
    if op == "unless":
        return _unmatched(left, lefts, right, rights)
    kept = [row for key, rows in lefts.items() if key in rights for row in rows]
    present = left.present.copy()
    for key, rows in lefts.items():
        if key in rights:
            present[rows] &= right.present[rights[key]].any(axis=0)
    return replace(left, present=present).rows(sorted(kept))


def _unmatched(
    vector: Vector, keys: dict[Labels, list[int]], other: Vector, others: dict[Labels, list[int]]
) -> Vector:
    """Keep the samples that have no match on the other side."""
    if keys.keys().isdisjoint(others):
        return vector
    present = vector.present.copy()
    for key, rows in keys.items():
        if key in others:
            present[rows] &= ~other.present[others[key]].any(axis=0)
    return replace(vector, present=present)


def aggregated(
    op: str, vector: Vector, parameter: Floats | None, group: Callable[[Labels], Labels]
) -> Vector:
    """
    Aggregate by the labels that `group` returns.

    Shape: `parameter`, for the operations that take one, has a number for each time.
    """
    groups = grouped(group(labels) for labels in vector.labels)
    if not groups:
        return vector
    if op in _SELECTIONS:
        return _selected(vector, _needed(parameter), list(groups.values()), largest=op == "topk")
    if len(groups) == len(vector.labels) and op in _SINGLE:
        return Vector(tuple(groups), vector.values, vector.present)
    order = np.array([row for rows in groups.values() for row in rows])
    sizes = [len(rows) for rows in groups.values()]
    starts = np.cumsum([0, *sizes[:-1]])
    values, present = vector.values[order], vector.present[order]
    found = np.logical_or.reduceat(present, starts, axis=0)
    result = AGGREGATIONS[op](_Sorted(values, present, starts, sizes), parameter)
    return Vector(tuple(groups), result, found)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The rows, sorted by group, with the first row and the number of rows of each group."""

    values: Floats
    present: Bools
    starts: np.ndarray[tuple[int], np.dtype[np.int64]]
    sizes: Sequence[int]

    def count(self) -> Floats:
        return np.add.reduceat(self.present.astype(np.float64), self.starts, axis=0)

    def sum(self) -> Floats:
        return np.add.reduceat(np.where(self.present, self.values, 0.0), self.starts, axis=0)

    def mean(self) -> Floats:
        return self.sum() / np.maximum(self.count(), 1)

    def variance(self) -> Floats:
        apart = self.values - np.repeat(self.mean(), self.sizes, axis=0)
        squares = np.where(self.present, apart * apart, 0.0)
        return np.add.reduceat(squares, self.starts, axis=0) / np.maximum(self.count(), 1)

    def extreme(self, operation: np.ufunc) -> Floats:
        cells = np.where(self.present, self.values, np.nan)
        return np.asarray(operation.reduceat(cells, self.starts, axis=0))

    def quantile(self, q: Floats) -> Floats:
        found = np.empty((len(self.sizes), self.values.shape[1]))
        for at, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            present = self.present[start : start + size].T
            values = self.values[start : start + size].T
            if np.isnan(values[present]).any():
                raise EvaluationError("quantile is supported for samples that are not NaN only")
            found[at] = quantile(q, np.where(present, values, np.inf), present.sum(axis=1))
        return found


AGGREGATIONS: dict[str, Callable[[_Sorted, Floats | None], Floats]] = {
    "sum": lambda rows, _: rows.sum(),
    "avg": lambda rows, _: rows.mean(),
    "count": lambda rows, _: rows.count(),
    "group": lambda rows, _: np.ones((len(rows.sizes), rows.values.shape[1])),
    "min": lambda rows, _: rows.extreme(np.fmin),
    "max": lambda rows, _: rows.extreme(np.fmax),
    "stdvar": lambda rows, _: rows.variance(),
    "stddev": lambda rows, _: np.sqrt(rows.variance()),
    "quantile": lambda rows, q: rows.quantile(_needed(q)),
}
# Operations that return a single sample unchanged.
_SINGLE = {"sum", "avg", "min", "max"}
_SELECTIONS = {"topk", "bottomk"}


def check_aggregation(op: str) -> None:
    """Raises: EvaluationError for an aggregation that is not supported."""
    if op not in AGGREGATIONS and op not in _SELECTIONS:
        raise EvaluationError(f"the aggregation {op} is not supported")


def _needed(parameter: Floats | None) -> Floats:
    if parameter is None:
        raise EvaluationError("the aggregation takes a parameter")
    return parameter


def _selected(vector: Vector, k: Floats, groups: Sequence[list[int]], *, largest: bool) -> Vector:
    """Keep the k largest or smallest samples of each group. Of equal samples the first is kept."""
    if (k != k[0]).any():
        raise EvaluationError("topk and bottomk are supported for a constant k only")
    present = np.zeros(vector.present.shape, np.bool_)
    columns = np.arange(vector.values.shape[1])
    for rows in groups:
        values = vector.values[rows] if largest else -vector.values[rows]
        # NaN is sorted after every number, and a missing sample after NaN.
        worth = np.where(np.isnan(values), -np.inf, np.maximum(values, np.finfo(np.float64).min))
        for _ in range(min(int(k[0]), len(rows))):
            open_rows = vector.present[rows] & ~present[rows]
            best = np.argmax(np.where(open_rows, worth, -np.inf), axis=0)
            best = np.where(open_rows[best, columns], best, np.argmax(open_rows, axis=0))
            at = open_rows[best, columns]
            present[np.array(rows)[best][at], columns[at]] = True
    return replace(vector, present=present)
