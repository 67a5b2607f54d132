"""Functions over instant vectors and scalars. Source: promql/functions.go of Prometheus 2.42."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.alerts.engine.vectors import (
    NAME,
    Bools,
    EvaluationError,
    Floats,
    Ints,
    Labels,
    Vector,
    changed,
    grouped,
    without,
)

MATHS: dict[str, Callable[[Floats], Floats]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sgn": lambda x: np.where(np.isnan(x), x, np.sign(x)),
    "deg": np.degrees,
    "rad": np.radians,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
}
_DAY = 86_400


def _date(kind: str, unit: str = "D") -> Callable[[Floats], Floats]:
    def part(seconds: Floats) -> Floats:
        days = np.floor(np.nan_to_num(seconds)).astype("datetime64[s]")
        start = days.astype(f"datetime64[{kind}]").astype(f"datetime64[{unit}]")
        return np.asarray((days.astype(f"datetime64[{unit}]") - start).astype(np.float64))

    return part


def _days_in_month(seconds: Floats) -> Floats:
    month = np.floor(np.nan_to_num(seconds)).astype("datetime64[s]").astype("datetime64[M]")
    days = (month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")
    return np.asarray(days.astype(np.float64))


DATES: dict[str, Callable[[Floats], Floats]] = {
    "minute": lambda s: np.floor(s / 60) % 60,
    "hour": lambda s: np.floor(s / 3600) % 24,
    "day_of_week": lambda s: (np.floor(s / _DAY) + 4) % 7,
    "day_of_month": lambda s: _date("M")(s) + 1,
    "day_of_year": lambda s: _date("Y")(s) + 1,
    "days_in_month": _days_in_month,
    "month": lambda s: _date("Y", "M")(s) + 1,
    "year": lambda s: np.floor(s).astype("datetime64[s]").astype("datetime64[Y]").astype(np.float64) + 1970,
}


def clamp(vector: Vector, low: Floats, high: Floats) -> Vector:
    values = np.maximum(low, np.minimum(high, vector.values))
    return replace(vector, present=vector.present & ~(high < low)).with_values(values)


def clamp_min(vector: Vector, low: Floats) -> Vector:
    return vector.with_values(np.maximum(low, vector.values))


def clamp_max(vector: Vector, high: Floats) -> Vector:
    return vector.with_values(np.minimum(high, vector.values))


def rounded(vector: Vector, nearest: Floats) -> Vector:
    inverse = 1 / nearest
    return vector.with_values(np.floor(vector.values * inverse + 0.5) / inverse)


def to_scalar(vector: Vector) -> Floats:
    """Return the value where there is exactly one sample, else NaN."""
    found = np.where(vector.present, vector.values, 0.0).sum(axis=0)
    return np.asarray(np.where(vector.present.sum(axis=0) == 1, found, np.nan))


def to_vector(scalar: Floats) -> Vector:
    return Vector(((),), scalar[None, :], np.ones((1, len(scalar)), np.bool_))


def absent(present: Bools, labels: Labels) -> Vector:
    gone = np.asarray(~present.any(axis=0))
    return Vector((labels,), np.ones((1, len(gone))), gone[None, :])


def label_replace(vector: Vector, target: str, template: str, source: str, pattern: str) -> Vector:
    compiled = re.compile(re.sub(r"\(\?P?<", "(?P<", pattern), re.ASCII)

    def replaced(labels: Labels) -> Labels:
        match = compiled.fullmatch(dict(labels).get(source, ""))
        return labels if match is None else changed(labels, {target: _expanded(template, match)})

    return vector.relabelled(replaced)


def _expanded(template: str, match: re.Match[str]) -> str:
    """Replace the references to groups, as Go's Regexp.Expand does: a missing group is empty."""

    def group(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name = found[1] or found[2]
        if name.isdigit():
            return (match[int(name)] or "") if int(name) <= match.re.groups else ""
        return (match[name] or "") if name in match.re.groupindex else ""

    return re.sub(r"\$\$|\$(\w+)|\$\{(\w+)\}", group, template, flags=re.ASCII)


def label_join(vector: Vector, target: str, separator: str, sources: Sequence[str]) -> Vector:
    def put_together(labels: Labels) -> Labels:
        values = dict(labels)
        return changed(labels, {target: separator.join(values.get(source, "") for source in sources)})

    return vector.relabelled(put_together)


def histogram_quantile(q: Floats, buckets: Vector) -> Vector:
    """Compute a quantile of histogram buckets. Source: bucketQuantile in promql/quantile.go."""
    bounded = [row for row, labels in enumerate(buckets.labels) if _bound(labels) is not None]
    buckets = buckets.rows(bounded)
    groups = grouped(without(labels, {"le", NAME}) for labels in buckets.labels)
    values = np.empty((len(groups), len(q)))
    present = np.zeros(values.shape, np.bool_)
    for at, rows in enumerate(groups.values()):
        rows.sort(key=lambda row: _bound(buckets.labels[row]) or 0.0)
        bounds = np.array([_bound(buckets.labels[row]) for row in rows], np.float64)
        if len(set(bounds)) < len(bounds):
            raise EvaluationError("histogram_quantile: two buckets with the same bound")
        there = buckets.present[rows]
        present[at] = there.any(axis=0)
        patterns, which = np.unique(there, axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            times = np.flatnonzero(which.reshape(-1) == number)
            cells = buckets.values[np.array(rows)[pattern]][:, times]
            values[at, times] = _bucket_quantile(q[times], bounds[pattern], cells)
    return Vector(tuple(groups), values, present)


def _bound(labels: Labels) -> float | None:
    try:
        return float(dict(labels)["le"].replace("Inf", "inf"))
    except (KeyError, ValueError):
        return None


def _bucket_quantile(q: Floats, bounds: Floats, cumulative: Floats) -> Floats:
    """Compute quantiles of a histogram. Shape: bounds (buckets,) in order, cumulative (buckets, times)."""
    if len(bounds) < 2 or not np.isposinf(bounds[-1]):
        return np.full(len(q), np.nan)
    cumulative = np.fmax.accumulate(cumulative, axis=0)
    rank = q * cumulative[-1]
    reached = cumulative[:-1] >= rank
    at: Ints = np.where(reached.any(axis=0), reached.argmax(axis=0), len(bounds) - 1)
    columns = np.arange(len(q))
    before = np.where(at > 0, cumulative[np.maximum(at - 1, 0), columns], 0.0)
    start = np.where(at > 0, bounds[np.maximum(at - 1, 0)], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (rank - before) / (cumulative[at, columns] - before)
        found = start + (bounds[at] - start) * share
    found = np.where((at == 0) & (bounds[0] <= 0), bounds[0], found)
    found = np.where(at == len(bounds) - 1, bounds[-2], found)
    found = np.where(cumulative[-1] == 0, np.nan, found)
    found = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found))
    return np.asarray(np.where(np.isnan(q), np.nan, found))
