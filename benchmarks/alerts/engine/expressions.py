"""Evaluate PromQL for all moments at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import cast

import numpy as np
import promql_parser as promql

from benchmarks.alerts.engine import functions, operators, ranges
from benchmarks.alerts.engine.operators import Matching
from benchmarks.alerts.engine.ranges import Range
from benchmarks.alerts.engine.storage import Moments, Storage, matchers_of
from benchmarks.alerts.engine.vectors import (
    NAME,
    EvaluationError,
    Floats,
    Labels,
    Vector,
    joined,
    labelled,
    only,
    without,
)

Value = Vector | Floats | str
"""The value of an expression: a vector, a scalar for each moment, or a string."""

_OVER_TIME: dict[str, Callable[[Range], Vector]] = {
    name: getattr(ranges, name)
    for name in (
        "avg_over_time",
        "changes",
        "count_over_time",
        "delta",
        "deriv",
        "idelta",
        "increase",
        "irate",
        "last_over_time",
        "max_over_time",
        "min_over_time",
        "present_over_time",
        "rate",
        "resets",
        "stddev_over_time",
        "stdvar_over_time",
        "sum_over_time",
    )
}
_KEEPS_NAME = {"last_over_time"}


class Evaluator:
    """
    Evaluates expressions for the rule at one position: it sees what the rules before it have recorded.

    All methods raise EvaluationError for an expression that Prometheus refuses or that is not supported.
    """

    def __init__(self, storage: Storage, position: int) -> None:
        self._storage = storage
        self._position = position

    def vector(self, node: promql.Expr, moments: Moments) -> Vector:
        """Evaluate to a vector. A scalar becomes a vector with one series without labels."""
        with np.errstate(all="ignore"):
            value = self._value(node, moments)
        if isinstance(value, str):
            raise EvaluationError("a string is no result of a rule")
        return functions.to_vector(value) if isinstance(value, np.ndarray) else value

    def _value(self, node: object, moments: Moments) -> Value:  # noqa: PLR0911 - one for each kind of node
        match node:
            case promql.NumberLiteral():
                return np.full(len(moments.times_ms), node.val)
            case promql.StringLiteral():
                return node.val
            case promql.ParenExpr():
                return self._value(node.expr, moments)
            case promql.VectorSelector():
                _refuse_at(node.at)
                offset_ms = _milliseconds(node.offset)
                return self._storage.instant(matchers_of(node), moments, offset_ms, self._position)
            case promql.UnaryExpr():
                value = self._value(node.expr, moments)
                return value.with_values(-value.values) if isinstance(value, Vector) else -_scalar(value)
            case promql.BinaryExpr():
                return self._binary(node, moments)
            case promql.AggregateExpr():
                return self._aggregate(node, moments)
            case promql.Call():
                return self._call(node, moments)
            case _:
                raise EvaluationError(f"{type(node).__name__} is not supported here")

    def _binary(self, node: promql.BinaryExpr, moments: Moments) -> Value:
        op = str(node.op)
        if op not in operators.SUPPORTED:
            raise EvaluationError(f"the operator {op} is not supported")
        left, right = self._value(node.lhs, moments), self._value(node.rhs, moments)
        as_bool = node.modifier is not None and node.modifier.return_bool
        if isinstance(left, Vector) and isinstance(right, Vector):
            matching = _matching(node.modifier)
            if op in operators.SETS:
                return operators.sets(op, left, right, matching)
            return operators.vectors(op, left, right, matching, as_bool=as_bool)
        if isinstance(left, Vector):
            return operators.with_scalar(op, left, _scalar(right), scalar_is_left=False, as_bool=as_bool)
        if isinstance(right, Vector):
            return operators.with_scalar(op, right, _scalar(left), scalar_is_left=True, as_bool=as_bool)
        return operators.scalars(op, _scalar(left), _scalar(right))

    def _aggregate(self, node: promql.AggregateExpr, moments: Moments) -> Vector:
        operators.check_aggregation(str(node.op))
        vector = self._vector(node.expr, moments)
        parameter = None if node.param is None else _scalar(self._value(node.param, moments))
        return operators.aggregated(str(node.op), vector, parameter, _grouping(node.modifier))

    def _call(self, node: promql.Call, moments: Moments) -> Value:
        name, args = node.func.name, node.args
        if name in _OVER_TIME:
            return self._over_time(args[0], moments, _OVER_TIME[name], keeps_name=name in _KEEPS_NAME)
        if name in functions.MATHS:
            vector = self._vector(args[0], moments)
            return vector.with_values(functions.MATHS[name](vector.values))
        if name in functions.DATES:
            vector = self._vector(args[0], moments) if args else functions.to_vector(moments.times_ms / 1000)
            return vector.with_values(functions.DATES[name](vector.values))
        call = _CALLS.get(name)
        if call is None:
            raise EvaluationError(f"the function {name} is not supported")
        return call(self, args, moments)

    def _vector(self, node: object, moments: Moments) -> Vector:
        value = self._value(node, moments)
        if not isinstance(value, Vector):
            raise EvaluationError("a vector was expected")
        return value

    def _number(self, node: object, moments: Moments) -> Floats:
        return _scalar(self._value(node, moments))

    def _over_time(
        self, node: object, moments: Moments, function: Callable[[Range], Vector], *, keeps_name: bool = False
    ) -> Vector:
        parts = [function(window) for window in self._ranges(node, moments)]
        found = joined(parts, len(moments.times_ms))
        return found if keeps_name else found.with_values(found.values)

    def _ranges(self, node: object, moments: Moments) -> list[Range]:
        if isinstance(node, promql.ParenExpr):
            return self._ranges(node.expr, moments)
        if isinstance(node, promql.SubqueryExpr):
            return [self._subquery(node, moments)]
        if not isinstance(node, promql.MatrixSelector):
            raise EvaluationError("a range was expected")
        selector = node.vector_selector
        _refuse_at(selector.at)
        return self._storage.range(
            matchers_of(selector),
            moments,
            _milliseconds(node.range),
            _milliseconds(selector.offset),
            self._position,
        )

    def _subquery(self, node: promql.SubqueryExpr, moments: Moments) -> Range:
        _refuse_at(node.at)
        window_ms, offset_ms = _milliseconds(node.range), _milliseconds(node.offset)
        step_ms = _milliseconds(node.step) or self._storage.step_ms
        first, last = self._storage.edges(moments, window_ms, offset_ms, step_ms)
        begin = int(first.min())
        times_ms = np.arange(begin, max(int(last.max()), begin) + 1, dtype=np.int64) * step_ms
        samples = self.vector(node.expr, Moments(times_ms, sees_now=True))
        ends_ms = moments.times_ms - offset_ms
        window = Range(
            samples,
            times_ms,
            first - begin,
            last - begin,
            ends_ms - window_ms,
            ends_ms,
            self._storage.is_version_3,
        )
        is_now = moments.times_ms % step_ms == 0
        if offset_ms > 0 or moments.sees_now or not is_now.any() or not self._reads_behind(node.expr):
            return window
        now = self.vector(node.expr, Moments(moments.times_ms[is_now]))
        return ranges.with_last_samples(window, is_now, now)

    def _reads_behind(self, node: promql.Expr) -> bool:
        return any(
            self._storage.is_behind(matchers_of(selector), self._position) for selector in selectors(node)
        )

    # Functions that are more than arithmetic on one argument.

    def pi(self, _args: list[object], moments: Moments) -> Value:
        return np.full(len(moments.times_ms), np.pi)

    def time(self, _args: list[object], moments: Moments) -> Value:
        return moments.times_ms / 1000

    def timestamp(self, args: list[object], moments: Moments) -> Value:
        node = args[0]
        while isinstance(node, promql.ParenExpr):
            node = node.expr
        if isinstance(node, promql.VectorSelector):
            _refuse_at(node.at)
            offset_ms = _milliseconds(node.offset)
            found = self._storage.timestamps(matchers_of(node), moments, offset_ms, self._position)
            return found.with_values(found.values)
        vector = self._vector(node, moments)
        return vector.with_values(np.broadcast_to(moments.times_ms / 1000, vector.values.shape))

    def absent(self, args: list[object], moments: Moments) -> Value:
        return functions.absent(self._vector(args[0], moments).present, _labels_of_absence(args[0]))

    def absent_over_time(self, args: list[object], moments: Moments) -> Value:
        found = self._over_time(args[0], moments, ranges.present_over_time, keeps_name=True)
        return functions.absent(found.present, _labels_of_absence(args[0]))

    def quantile_over_time(self, args: list[object], moments: Moments) -> Value:
        q = self._number(args[0], moments)
        return self._over_time(args[1], moments, lambda window: ranges.quantile_over_time(window, q))

    def predict_linear(self, args: list[object], moments: Moments) -> Value:
        seconds = self._number(args[1], moments)
        return self._over_time(
            args[0], moments, lambda window: ranges.predict_linear(window, seconds, moments.times_ms)
        )

    def clamp(self, args: list[object], moments: Moments) -> Value:
        low, high = (self._number(arg, moments) for arg in args[1:])
        return functions.clamp(self._vector(args[0], moments), low, high)

    def clamp_min(self, args: list[object], moments: Moments) -> Value:
        return functions.clamp_min(self._vector(args[0], moments), self._number(args[1], moments))

    def clamp_max(self, args: list[object], moments: Moments) -> Value:
        return functions.clamp_max(self._vector(args[0], moments), self._number(args[1], moments))

    def round(self, args: list[object], moments: Moments) -> Value:
        nearest = self._number(args[1], moments) if len(args) > 1 else np.ones(len(moments.times_ms))
        return functions.rounded(self._vector(args[0], moments), nearest)

    def scalar(self, args: list[object], moments: Moments) -> Value:
        return functions.to_scalar(self._vector(args[0], moments))

    def to_vector(self, args: list[object], moments: Moments) -> Value:
        return functions.to_vector(self._number(args[0], moments))

    def sort(self, args: list[object], moments: Moments) -> Value:
        return self._vector(args[0], moments)

    def label_replace(self, args: list[object], moments: Moments) -> Value:
        texts = [_text(self._value(arg, moments)) for arg in args[1:]]
        return functions.label_replace(self._vector(args[0], moments), *texts)

    def label_join(self, args: list[object], moments: Moments) -> Value:
        target, separator, *sources = (_text(self._value(arg, moments)) for arg in args[1:])
        return functions.label_join(self._vector(args[0], moments), target, separator, sources)

    def histogram_quantile(self, args: list[object], moments: Moments) -> Value:
        return functions.histogram_quantile(self._number(args[0], moments), self._vector(args[1], moments))


_CALLS: dict[str, Callable[[Evaluator, list[object], Moments], Value]] = {
    "absent": Evaluator.absent,
    "absent_over_time": Evaluator.absent_over_time,
    "clamp": Evaluator.clamp,
    "clamp_max": Evaluator.clamp_max,
    "clamp_min": Evaluator.clamp_min,
    "histogram_quantile": Evaluator.histogram_quantile,
    "label_join": Evaluator.label_join,
    "label_replace": Evaluator.label_replace,
    "pi": Evaluator.pi,
    "predict_linear": Evaluator.predict_linear,
    "quantile_over_time": Evaluator.quantile_over_time,
    "round": Evaluator.round,
    "scalar": Evaluator.scalar,
    "sort": Evaluator.sort,
    "sort_desc": Evaluator.sort,
    "time": Evaluator.time,
    "timestamp": Evaluator.timestamp,
    "vector": Evaluator.to_vector,
}


def _matching(modifier: promql.BinModifier | None) -> Matching:
    if modifier is None:
        return Matching()
    many = {"ManyToOne": "left", "OneToMany": "right"}.get(str(modifier.card).rpartition(".")[2], "")
    fill = modifier.fill_values
    if fill.lhs is not None or fill.rhs is not None:
        raise EvaluationError("fill values are not supported")
    labels = modifier.matching
    on = labels is not None and str(labels.type).endswith("Include")
    included = tuple(modifier.group_labels or ())
    return Matching(on, frozenset(labels.labels if labels is not None else ()), many, included)


def _grouping(modifier: promql.AggModifier | None) -> Callable[[Labels], Labels]:
    if modifier is None:
        return lambda _labels: ()
    names = frozenset(modifier.labels)
    if str(modifier.type).endswith("By"):
        return lambda labels: only(labels, names)
    return lambda labels: without(labels, names | {NAME})


def _labels_of_absence(node: object) -> Labels:
    """Return the labels of the result of absent(): those that its selector matches with `=`, once each."""
    if isinstance(node, promql.MatrixSelector):
        node = node.vector_selector
    if not isinstance(node, promql.VectorSelector):
        return ()
    labels: dict[str, str] = {}
    for matcher in node.matchers.matchers:
        if matcher.name == NAME:
            continue
        is_first = matcher.name not in labels and str(matcher.op) == "MatchOp.Equal"
        labels[matcher.name] = matcher.value if is_first else ""
    return labelled(labels.items())


def _milliseconds(duration: timedelta | None) -> int:
    milliseconds = 0 if duration is None else round(duration / timedelta(milliseconds=1))
    if milliseconds < 0:
        raise EvaluationError("negative offsets are not supported")
    return milliseconds


def _refuse_at(modifier: object) -> None:
    if modifier is not None:
        raise EvaluationError("the modifier @ is not supported")


def _scalar(value: Value) -> Floats:
    if not isinstance(value, np.ndarray):
        raise EvaluationError("a scalar was expected")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise EvaluationError("a string was expected")
    return value


def selectors(node: object) -> list[promql.VectorSelector]:
    """Return every selector in an expression."""
    found: list[promql.VectorSelector] = []

    def visit(inner: promql.Expr) -> bool:
        if isinstance(inner, promql.MatrixSelector):
            found.append(inner.vector_selector)
        elif isinstance(inner, promql.VectorSelector):
            found.append(inner)
        return True

    promql.walk(cast("promql.Expr", node), visit)
    return found
