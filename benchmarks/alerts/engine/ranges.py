"""
Functions over windows of time, for all windows at once.

Sums, extremes and moments are computed by doubling: the results for 2, 4, 8... samples are computed once for
all times, and the result of a window combines at most one of each. No subtraction, so no digits are lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.alerts.engine.vectors import Bools, EvaluationError, Floats, Ints, Vector

_CHUNK_CELLS = 4_000_000
_MOST_CELLS = 100_000_000


@dataclass(frozen=True, slots=True)
class Range:
    """
    Samples, and the windows over them.

    Shape: `times_ms` has the time of each column of the samples. A window contains the columns from `oldest`
    to `newest`, both included. These may lie outside of the columns. `starts_ms` and `ends_ms` are its edges.
    """

    samples: Vector
    times_ms: Ints
    oldest: Ints
    newest: Ints
    starts_ms: Ints
    ends_ms: Ints
    is_version_3: bool = False


@dataclass(frozen=True, slots=True)
class _Pattern:
    """
    Series that have their samples at the same times.

    Shape: `x` has the samples (series, samples) and `times_ms` their times; window w holds those from
    `first[w]` to `last[w]`.
    """

    rows: Ints
    x: Floats
    times_ms: Ints
    first: Ints
    last: Ints


def with_last_samples(window: Range, chosen: Bools, last: Vector) -> Range:
    """
    Replace the last sample of the chosen windows.

    Shape: `last` has one column for each chosen window. The chosen windows are equally long. Their samples
    are copied into new columns behind the others.
    """
    labels = tuple(dict.fromkeys((*window.samples.labels, *last.labels)))
    oldest, newest = window.oldest[chosen], window.newest[chosen]
    length = int(newest[0] - oldest[0]) + 1
    if length * len(oldest) * len(labels) > _MOST_CELLS:
        raise EvaluationError("a subquery of so many steps needs an offset, as it reads a rule further down")
    columns = (oldest[:, None] + np.arange(length)).ravel()
    before = window.samples.of(labels)
    own = last.of(labels)
    values, present = before.values[:, columns], before.present[:, columns]
    values[:, length - 1 :: length], present[:, length - 1 :: length] = own.values, own.present
    begins = len(window.times_ms) + np.arange(len(oldest)) * length
    all_oldest, all_newest = window.oldest.copy(), window.newest.copy()
    all_oldest[chosen], all_newest[chosen] = begins, begins + length - 1
    samples = Vector(
        labels,
        np.concatenate((before.values, values), axis=1),
        np.concatenate((before.present, present), axis=1),
    )
    times_ms = np.concatenate((window.times_ms, window.times_ms[columns]))
    return replace(window, samples=samples, times_ms=times_ms, oldest=all_oldest, newest=all_newest)


def _patterns(window: Range) -> Iterator[_Pattern]:
    by_presence: dict[bytes, list[int]] = {}
    for row, bits in enumerate(np.packbits(window.samples.present, axis=1)):
        by_presence.setdefault(bits.tobytes(), []).append(row)
    columns = window.samples.present.shape[1]
    oldest = np.clip(window.oldest, 0, columns)
    behind = np.clip(window.newest + 1, 0, columns)
    for rows in by_presence.values():
        mask = window.samples.present[rows[0]]
        before = np.concatenate(([0], np.cumsum(mask)))
        x = window.samples.values[rows][:, mask]
        yield _Pattern(np.array(rows), x, window.times_ms[mask], before[oldest], before[behind] - 1)


def _counts(window: Range) -> Ints:
    counts = np.empty((len(window.samples.labels), len(window.ends_ms)), np.int64)
    for pattern in _patterns(window):
        counts[pattern.rows] = np.maximum(pattern.last - pattern.first + 1, 0)
    return counts


def _by_pattern(
    window: Range, least: int, compute: Callable[[_Pattern, Ints, Ints, Bools], Floats]
) -> Vector:
    """Call compute(pattern, first, last, these) for the windows with at least so many samples."""
    shape = (len(window.samples.labels), len(window.ends_ms))
    values, present = np.zeros(shape), np.zeros(shape, np.bool_)
    for pattern in _patterns(window):
        enough = pattern.last - pattern.first + 1 >= least
        if enough.any():
            found = compute(pattern, pattern.first[enough], pattern.last[enough], enough)
            values[np.ix_(pattern.rows, enough)] = found
            present[pattern.rows] = enough
    return Vector(window.samples.labels, values, present)


def last_over_time(window: Range) -> Vector:
    return _by_pattern(window, 1, lambda pattern, _first, last, _these: pattern.x[:, last])


def count_over_time(window: Range) -> Vector:
    counts = _counts(window)
    return Vector(window.samples.labels, counts.astype(np.float64), counts > 0)


def present_over_time(window: Range) -> Vector:
    counts = _counts(window)
    return Vector(window.samples.labels, np.ones(counts.shape), counts > 0)


def changes(window: Range) -> Vector:
    def changed(x: Floats) -> Bools:
        return np.asarray((x[:, 1:] != x[:, :-1]) & ~(np.isnan(x[:, 1:]) & np.isnan(x[:, :-1])))

    return _steps(window, changed)


def resets(window: Range) -> Vector:
    return _steps(window, lambda x: x[:, 1:] < x[:, :-1])


def _steps(window: Range, is_step: Callable[[Floats], Bools]) -> Vector:
    def compute(pattern: _Pattern, first: Ints, last: Ints, _these: Bools) -> Floats:
        steps = _summed(is_step(pattern.x))
        return (steps[:, last] - steps[:, first]).astype(np.float64)

    return _by_pattern(window, 1, compute)


def _summed(steps: Floats | Bools) -> Floats:
    out = np.zeros((steps.shape[0], steps.shape[1] + 1))
    np.cumsum(steps, axis=1, out=out[:, 1:])
    return out


def rate(window: Range) -> Vector:
    return _extrapolated(window, counter=True, per_second=True)


def increase(window: Range) -> Vector:
    return _extrapolated(window, counter=True, per_second=False)


def delta(window: Range) -> Vector:
    return _extrapolated(window, counter=False, per_second=False)


def _extrapolated(window: Range, *, counter: bool, per_second: bool) -> Vector:
    """Compute rate, increase or delta. Source: extrapolatedRate in promql/functions.go of 2.42 and of 3.0."""

    def compute(pattern: _Pattern, first: Ints, last: Ints, these: Bools) -> Floats:
        x = pattern.x
        if not np.isfinite(x).all():
            raise EvaluationError("rate, increase and delta are supported for finite samples only")
        if counter:
            steps = np.diff(x, axis=1)
            risen = _summed(np.where(steps < 0, x[:, 1:], steps))
            found = risen[:, last] - risen[:, first]
        else:
            found = x[:, last] - x[:, first]
        first_ms, last_ms = pattern.times_ms[first], pattern.times_ms[last]
        sampled = (last_ms - first_ms) / 1000
        mean = sampled / (last - first)
        to_start = np.broadcast_to((first_ms - window.starts_ms[these]) / 1000, found.shape)
        to_end = (window.ends_ms[these] - last_ms) / 1000
        if window.is_version_3:
            to_start = np.where(to_start < mean * 1.1, to_start, mean / 2)
        if counter:
            to_zero = sampled * (x[:, first] / found)
            rises = (found > 0) & (x[:, first] >= 0)
            to_start = np.where(rises & (to_zero < to_start), to_zero, to_start)
        covered = sampled + np.where(to_start < mean * 1.1, to_start, mean / 2)
        covered = covered + np.where(to_end < mean * 1.1, to_end, mean / 2)
        factor = covered / sampled
        if per_second:
            factor = factor / ((window.ends_ms - window.starts_ms)[these] / 1000)
        return np.asarray(found * factor)

    return _by_pattern(window, 2, compute)


def irate(window: Range) -> Vector:
    return _instantaneous(window, is_rate=True)


def idelta(window: Range) -> Vector:
    return _instantaneous(window, is_rate=False)


def _instantaneous(window: Range, *, is_rate: bool) -> Vector:
    def compute(pattern: _Pattern, _first: Ints, last: Ints, _these: Bools) -> Floats:
        now, before = pattern.x[:, last], pattern.x[:, last - 1]
        if not is_rate:
            return now - before
        risen = np.where(now < before, now, now - before)
        return np.asarray(risen / ((pattern.times_ms[last] - pattern.times_ms[last - 1]) / 1000))

    return _by_pattern(window, 2, compute)


State = tuple[Floats, ...]


Combine = Callable[[State, State], State]


def fold(state: State, identity: Sequence[float], combine: Combine, window: Range) -> State:
    """
    Combine the columns of each window with an associative operation that has an identity.

    Shape: each array of `state` is (series, columns), and each of the result (series, windows).
    The lengths of windows may differ by one column, as in a subquery.
    """
    rows, columns = state[0].shape
    inside = (window.newest >= 0) & (window.oldest < columns) & (window.newest >= window.oldest)
    out = tuple(np.full((rows, len(window.newest)), unit) for unit in identity)
    if not inside.any():
        return out
    oldest, newest = window.oldest[inside], window.newest[inside]
    if newest.max() >= columns:
        raise EvaluationError("a window reaches into the future")
    pad = max(0, -int(oldest.min()))
    level = tuple(
        np.concatenate((np.full((rows, pad), unit), part), axis=1)
        for part, unit in zip(state, identity, strict=True)
    )
    done = _doubled(level, combine, oldest + pad, newest + pad)
    for whole, part in zip(out, done, strict=True):
        whole[:, inside] = part
    return out


def _doubled(level: State, combine: Combine, oldest: Ints, newest: Ints) -> State:
    """Combine the columns oldest..newest, which must exist."""
    lengths = newest - oldest + 1
    shortest = int(lengths.min())
    if int(lengths.max()) > shortest + 1:
        raise EvaluationError("windows of different lengths")
    longer = lengths > shortest
    columns = level
    at, size, found = oldest, 1, None
    while True:
        if shortest & size:
            part = tuple(_taken(one, at) for one in level)
            found = part if found is None else combine(found, part)
            at = at + size
        if size * 2 > shortest:
            break
        level = combine(tuple(one[:, :-size] for one in level), tuple(one[:, size:] for one in level))
        size *= 2
    assert found is not None, "a window inside holds a column"
    if longer.any():
        last = tuple(_taken(one, newest[longer]) for one in columns)
        more = combine(tuple(one[:, longer] for one in found), last)
        for whole, part_of in zip(found, more, strict=True):
            whole[:, longer] = part_of
    return found


def _taken(array: Floats, at: Ints) -> Floats:
    """Return a copy of these columns."""
    if len(at) > 1 and at[-1] - at[0] == len(at) - 1 and (np.diff(at) == 1).all():
        return array[:, at[0] : at[-1] + 1].copy()
    return np.take(array, at, axis=1)


def _folded(window: Range, unit: float, operation: Callable[[Floats, Floats], Floats]) -> Vector:
    columns = np.where(window.samples.present, window.samples.values, unit)
    (values,) = fold((columns,), (unit,), lambda a, b: (operation(a[0], b[0]),), window)
    return Vector(window.samples.labels, values, _counts(window) > 0)


def sum_over_time(window: Range) -> Vector:
    return _folded(window, 0.0, np.add)


def min_over_time(window: Range) -> Vector:
    return _folded(window, np.nan, np.fmin)


def max_over_time(window: Range) -> Vector:
    return _folded(window, np.nan, np.fmax)


def avg_over_time(window: Range) -> Vector:
    total = sum_over_time(window)
    values = total.values / np.maximum(_counts(window), 1)
    return Vector(total.labels, values, total.present)


def stdvar_over_time(window: Range) -> Vector:
    n, _, squares = _moments(window)
    return Vector(window.samples.labels, squares / np.maximum(n, 1), n > 0)


def stddev_over_time(window: Range) -> Vector:
    variance = stdvar_over_time(window)
    return Vector(variance.labels, np.sqrt(variance.values), variance.present)


def _moments(window: Range) -> State:
    """Return the number of samples, their mean, and the sum of the squared distances from it."""
    present = window.samples.present
    state = (
        present.astype(np.float64),
        np.where(present, window.samples.values, 0.0),
        np.zeros(present.shape),
    )

    def combine(a: State, b: State) -> State:
        n = a[0] + b[0]
        share = b[0] / np.maximum(n, 1)
        apart = b[1] - a[1]
        # An empty half has the mean 0, which must not count.
        apart = np.where((a[0] > 0) & (b[0] > 0), apart, 0.0)
        mean = np.where(a[0] > 0, a[1], b[1]) + apart * share
        return n, mean, a[2] + b[2] + apart * apart * a[0] * share

    return fold(state, (0.0, 0.0, 0.0), combine, window)


def deriv(window: Range) -> Vector:
    slope, _, present = _regression(window)
    return Vector(window.samples.labels, slope, present)


def predict_linear(window: Range, seconds: Floats, now_ms: Ints) -> Vector:
    slope, at_end, present = _regression(window, now_ms)
    return Vector(window.samples.labels, slope * seconds + at_end, present)


def _regression(window: Range, at_ms: Ints | None = None) -> tuple[Floats, Floats, Bools]:
    """Return each window's regression line: its slope per second, and its value at a time."""
    present = window.samples.present
    seconds = np.broadcast_to(window.times_ms / 1000, present.shape)
    zero = np.zeros(present.shape)
    y = np.where(present, window.samples.values, 0.0)
    state = (present.astype(np.float64), np.where(present, seconds, 0.0), y, zero, zero)

    def combine(a: State, b: State) -> State:
        n = a[0] + b[0]
        share = b[0] / np.maximum(n, 1)
        both, first = (a[0] > 0) & (b[0] > 0), a[0] > 0
        dx, dy = np.where(both, b[1] - a[1], 0.0), np.where(both, b[2] - a[2], 0.0)
        x, y = np.where(first, a[1], b[1]) + dx * share, np.where(first, a[2], b[2]) + dy * share
        return n, x, y, a[3] + b[3] + dx * dx * a[0] * share, a[4] + b[4] + dx * dy * a[0] * share

    n, x, y, xx, xy = fold(state, (0.0,) * 5, combine, window)
    slope = xy / np.where(xx > 0, xx, 1.0)
    at = window.ends_ms if at_ms is None else at_ms
    return slope, y + slope * (at / 1000 - x), n >= 2


def quantile_over_time(window: Range, q: Floats) -> Vector:
    def compute(pattern: _Pattern, first: Ints, last: Ints, these: Bools) -> Floats:
        found = np.empty((len(pattern.rows), len(first)))
        widest = int((last - first).max()) + 1
        chunk = max(1, _CHUNK_CELLS // (widest * len(pattern.rows)))
        # NaN is sorted first, as in Prometheus. Samples outside of the window are sorted last.
        ranked = np.where(np.isnan(pattern.x), -np.inf, pattern.x)
        for begin in range(0, len(first), chunk):
            part = slice(begin, begin + chunk)
            at = first[part, None] + np.arange(widest)
            inside = at <= last[part, None]
            cells = ranked[:, np.minimum(at, ranked.shape[1] - 1)]
            found[:, part] = quantile(q[these][part], np.where(inside, cells, np.inf), inside.sum(axis=1))
        return found

    if np.isnan(window.samples.values[window.samples.present]).any():
        raise EvaluationError("quantile_over_time is supported for samples that are not NaN only")
    return _by_pattern(window, 1, compute)


def quantile(q: Floats, cells: Floats, count: Ints) -> Floats:
    """
    Return the quantile over the last axis. Its first `count` cells are used; the others are +Inf.

    Source: quantile in promql/quantile.go.
    """
    cells = np.sort(cells, axis=-1)
    rank = np.clip(q, 0, 1) * (count - 1)
    lower = np.floor(np.maximum(np.nan_to_num(rank), 0)).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(count - 1, 0))
    weight = rank - np.floor(rank)
    low = np.take_along_axis(cells, np.broadcast_to(lower, cells.shape[:-1])[..., None], -1)[..., 0]
    high = np.take_along_axis(cells, np.broadcast_to(upper, cells.shape[:-1])[..., None], -1)[..., 0]
    with np.errstate(invalid="ignore"):
        found = low * (1 - weight) + high * weight
    found = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found))
    return np.asarray(np.where(np.isnan(q), np.nan, found))
