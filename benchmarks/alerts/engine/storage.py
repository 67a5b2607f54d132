"""The series that expressions read: scraped series, and series that rules have recorded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import promql_parser

from benchmarks.alerts.engine.ranges import Range
from benchmarks.alerts.engine.vectors import (
    NAME,
    Bools,
    EvaluationError,
    Floats,
    Ints,
    Labels,
    Vector,
    joined,
)

SCRAPED = -1
"""The position of a block that no rule has recorded."""
_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "MatchOp.Equal": lambda matcher, value: value == matcher,
    "MatchOp.NotEqual": lambda matcher, value: value != matcher,
    "MatchOp.Re": lambda matcher, value: re.fullmatch(matcher, value, re.ASCII) is not None,
    "MatchOp.NotRe": lambda matcher, value: re.fullmatch(matcher, value, re.ASCII) is None,
}


@dataclass(frozen=True, slots=True)
class Matcher:
    """A matcher on a label. `op` is the parser's name of the operator."""

    label: str
    op: str
    value: str

    def matches(self, labels: dict[str, str]) -> bool:
        return _MATCHES[self.op](self.value, labels.get(self.label, ""))


def matchers_of(selector: promql_parser.VectorSelector) -> list[Matcher]:
    """Return a selector's matchers, with the one on the name. Raises: EvaluationError for `{... or ...}`."""
    if selector.matchers.or_matchers:
        raise EvaluationError("matchers with `or` are not supported")
    found = [Matcher(one.name, str(one.op), one.value) for one in selector.matchers.matchers]
    if selector.name:
        found.append(Matcher(NAME, "MatchOp.Equal", selector.name))
    return found


@dataclass(frozen=True, slots=True)
class Moments:
    """
    The times at which an expression is evaluated, in milliseconds and at equal distances.

    `sees_now`: whether the expression sees the samples that later rules record at the same moment. It does
    when a subquery looks back.
    """

    times_ms: Ints
    sees_now: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """
    Series of one origin, with a value for each step from time 0 on.

    `ends_stale`: a series without a sample at a step ends at once. Else its last sample is valid for a while.
    """

    vector: Vector
    position: int = SCRAPED
    ends_stale: bool = True
    stale: Bools | None = None
    _filled: dict[int, Ints] = field(default_factory=dict)

    def latest(self, reach: int) -> Ints | None:
        """
        Return for each step the step of the sample that it sees: up to `reach` steps back, -1 for none.

        Returns None if each step sees only its own sample.
        """
        if self.ends_stale or self.vector.present.all():
            return None
        if reach not in self._filled:
            present = self.vector.present
            steps = np.arange(present.shape[1])
            known = present if self.stale is None else present | self.stale
            last = np.maximum.accumulate(np.where(known, steps, -1), axis=1)
            last[(steps - last > reach)] = -1
            last[~np.take_along_axis(present, np.maximum(last, 0), axis=1)] = -1
            self._filled[reach] = last
        return self._filled[reach]


class Storage:
    """
    Blocks of series by the metric's name.

    `is_version_3`: windows do not include their oldest edge, as in Prometheus 3.0 and later.
    """

    def __init__(self, step_ms: int, steps: int, lookback_ms: int, is_version_3: bool) -> None:
        self.step_ms = step_ms
        self.steps = steps
        self._lookback_ms = lookback_ms - int(is_version_3)
        self.is_version_3 = is_version_3
        self._blocks: dict[str, list[Block]] = {}

    def add(self, block: Block) -> None:
        by_name: dict[str, list[int]] = {}
        for row, labels in enumerate(block.vector.labels):
            by_name.setdefault(dict(labels).get(NAME, ""), []).append(row)
        for name, rows in by_name.items():
            stale = None if block.stale is None else block.stale[rows]
            part = Block(block.vector.rows(rows), block.position, block.ends_stale, stale)
            known = {labels for other in self._blocks.get(name, ()) for labels in other.vector.labels}
            if not known.isdisjoint(part.vector.labels):
                raise EvaluationError(f"another rule records the same series of {name}")
            self._blocks.setdefault(name, []).append(part)

    def instant(self, matchers: Sequence[Matcher], moments: Moments, offset_ms: int, reader: int) -> Vector:
        parts = []
        for block, rows in self._matching(matchers):
            part, index = self._seen(block, rows, moments, offset_ms, reader)
            parts.append(_picked(part, index))
        return joined(parts, len(moments.times_ms))

    def timestamps(
        self, matchers: Sequence[Matcher], moments: Moments, offset_ms: int, reader: int
    ) -> Vector:
        """Return the time of each sample that an instant selector sees, in seconds."""
        parts = []
        for block, rows in self._matching(matchers):
            part, index = self._seen(block, rows, moments, offset_ms, reader)
            present = _picked(part, index).present
            seconds = np.broadcast_to(index * (self.step_ms / 1000), present.shape)
            parts.append(Vector(part.labels, seconds, present))
        return joined(parts, len(moments.times_ms))

    def _seen(
        self, block: Block, rows: Sequence[int], moments: Moments, offset_ms: int, reader: int
    ) -> tuple[Vector, Ints]:
        """
        Return the matching series, and the step of the sample that each moment sees, -1 for none.

        Shape: the steps are (times,) if they are the same for all series, else (series, times).
        """
        newest = self._newest(block, moments, offset_ms, reader)
        part = block.vector.rows(rows)
        ages_ms = moments.times_ms - offset_ms - newest * self.step_ms
        if (ages_ms != ages_ms[0]).any():
            raise EvaluationError("the step of a subquery is no multiple of the steps")
        latest = block.latest(int((self._lookback_ms - ages_ms[0]) // self.step_ms))
        if latest is None:
            return part, np.maximum(newest, -1)
        return part, np.where(newest >= 0, latest[rows][:, np.maximum(newest, 0)], -1)

    def range(
        self,
        matchers: Sequence[Matcher],
        moments: Moments,
        window_ms: int,
        offset_ms: int,
        reader: int,
    ) -> list[Range]:
        ends = moments.times_ms - offset_ms
        starts = ends - window_ms
        oldest = starts // self.step_ms + 1 if self.is_version_3 else -(-starts // self.step_ms)
        times_ms = np.arange(self.steps, dtype=np.int64) * self.step_ms
        return [
            Range(
                block.vector.rows(rows),
                times_ms,
                oldest,
                self._newest(block, moments, offset_ms, reader),
                starts,
                ends,
                self.is_version_3,
            )
            for block, rows in self._matching(matchers)
        ]

    def edges(self, moments: Moments, window_ms: int, offset_ms: int, step_ms: int) -> tuple[Ints, Ints]:
        """Return the first and the last multiple of `step_ms` in each moment's window, divided by it."""
        ends = moments.times_ms - offset_ms
        starts = ends - window_ms
        first = starts // step_ms + 1 if self.is_version_3 else -(-starts // step_ms)
        return first, ends // step_ms

    def _newest(self, block: Block, moments: Moments, offset_ms: int, reader: int) -> Ints:
        """
        Return the newest step that each moment can see.

        At one moment, a later rule records after the reader has read.
        """
        newest: Ints = (moments.times_ms - offset_ms) // self.step_ms
        if block.position < reader or offset_ms > 0 or moments.sees_now:
            return newest
        return -(-moments.times_ms // self.step_ms) - 1

    def is_behind(self, matchers: Sequence[Matcher], reader: int) -> bool:
        """Tell whether a later rule than the reader records a matching series."""
        return any(block.position >= reader for block, _ in self._matching(matchers))

    def _matching(self, matchers: Sequence[Matcher]) -> Iterable[tuple[Block, list[int]]]:
        names = [one for one in matchers if one.label == NAME]
        others = [one for one in matchers if one.label != NAME]
        for name, blocks in self._blocks.items():
            if all(one.matches({NAME: name}) for one in names):
                for block in blocks:
                    rows = [
                        row
                        for row, labels in enumerate(block.vector.labels)
                        if not others or all(one.matches(dict(labels)) for one in others)
                    ]
                    if rows:
                        yield block, rows


def _picked(cells: Vector, index: Ints) -> Vector:
    """Return one column for each moment, without a sample where the index is -1."""
    if index.ndim == 2:
        at = np.maximum(index, 0)
        present = np.take_along_axis(cells.present, at, axis=1) & (index >= 0)
        return Vector(cells.labels, np.take_along_axis(cells.values, at, axis=1), present)
    columns = cells.present.shape[1]
    if len(index) == columns and (index == np.arange(columns)).all():
        return cells
    at = np.maximum(index, 0)
    return Vector(
        cells.labels, np.take(cells.values, at, axis=1), np.take(cells.present, at, axis=1) & (index >= 0)
    )


def scraped(series: dict[Labels, Floats], gaps_are_stale: bool) -> Block:
    """Make a block of scraped series. NaN stands for a missing sample."""
    values = np.array(list(series.values()), np.float64)
    return Block(Vector(tuple(series), values, ~np.isnan(values)), ends_stale=gaps_are_stale)
