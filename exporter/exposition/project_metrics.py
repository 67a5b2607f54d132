"""
The API requests of one project: counted when they end, rendered only after a change.

The lines are those of the client library. It is not used here because it renders all metrics together: that
took half a millisecond for each project in every round.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from exporter.errors import RETRY_REASONS
from exporter.exposition import families as f
from exporter.exposition.families import Family
from exporter.exposition.render import FamilyLines, created_gauge, encoded, label_pair, number
from exporter.exposition.samples import CREATED

REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BOUNDS = tuple(map(number, (*REQUEST_BUCKETS, float("inf"))))

_Counts = dict[str, tuple[int, float]]
"""Counts and creation times of series, by the value of their label."""

_Line = tuple[str, dict[str, str], float]
"""A sample: the suffix of its name, its labels without the project, and its value."""


class ProjectMetrics:
    """
    The metrics of one project. The event loop's thread counts; meanwhile another thread may render.

    Units: seconds. `clock` gives Unix time, for the creation time of each series.
    """

    def __init__(self, project: str, clock: Callable[[], float]) -> None:
        self.clock_skew: float | None = None
        self._project = project
        self._clock = clock
        self._created = clock()
        self._requests: _Counts = {}
        self._retries: _Counts = dict.fromkeys(RETRY_REASONS, (0, self._created))
        self._durations = [0] * len(_BOUNDS)
        self._seconds = 0.0
        # Every change makes a new version of the numbers; `_rendered` has lines and the version they show.
        self._version = 0
        self._rendered: tuple[tuple[int, bool], Mapping[Family, Mapping[str, FamilyLines]]] = (
            (-1, False),
            {},
        )

    def request(self, code: str, seconds: float) -> None:
        self._add(self._requests, code)
        self._durations[bisect_left(REQUEST_BUCKETS, seconds)] += 1
        self._seconds += seconds
        self._version += 1

    def retry(self, reason: str) -> None:
        self._add(self._retries, reason)
        self._version += 1

    def _add(self, counts: _Counts, value: str) -> None:
        count, created = counts.get(value) or (0, self._clock())
        counts[value] = count + 1, created

    def set_clock_skew(self, seconds: float) -> None:
        self.clock_skew = seconds
        self._version += 1

    def render(self, *, created: bool) -> Mapping[Family, Mapping[str, FamilyLines]]:
        """Render the project's lines by family; those of creation times only if they are wanted."""
        # The version is read before the numbers: a change from now on leads to another rendering.
        version = self._version, created
        if self._rendered[0] != version:
            lines: dict[Family, Mapping[str, FamilyLines]] = {}
            for family, samples in (
                (f.API_REQUESTS, self._counters("code", self._requests)),
                (f.API_REQUEST_DURATION, self._histogram()),
                (f.API_RETRIES, self._counters("reason", self._retries)),
                (f.API_CLOCK_SKEW, () if self.clock_skew is None else [("", {}, self.clock_skew)]),
            ):
                lines |= self._render(family, samples, created=created)
            self._rendered = version, lines
        return self._rendered[1]

    def _counters(self, label: str, counts: _Counts) -> Iterator[_Line]:
        # A copy: the other thread may add a series.
        for value, (count, created) in counts.copy().items():
            yield "", {label: value}, count
            yield CREATED, {label: value}, created

    def _histogram(self) -> Iterator[_Line]:
        # A copy: the count must be that of the last bucket.
        counts = list(accumulate(self._durations.copy()))
        for bound, count in zip(_BOUNDS, counts, strict=True):
            yield "_bucket", {"le": bound}, count
        yield "_count", {}, counts[-1]
        yield "_sum", {}, self._seconds
        yield CREATED, {}, self._created

    def _render(
        self, family: Family, samples: Iterable[_Line], *, created: bool
    ) -> Mapping[Family, Mapping[str, FamilyLines]]:
        text, openmetrics, births = list[str](), list[str](), list[str]()
        for suffix, others, value in samples:
            if suffix == CREATED and not created:
                continue
            labels = ",".join(
                label_pair(*pair) for pair in sorted({"project": self._project, **others}.items())
            )
            name = (family.openmetrics_name if suffix == CREATED else family.name) + suffix
            line = f"{name}{{{labels}}} {number(value)}\n"
            (births if suffix == CREATED else text).append(line)
            openmetrics.append(line)
        lines = {family: {"": FamilyLines.of(encoded(text), encoded(openmetrics))}} if text else {}
        if births:
            lines[created_gauge(family)] = {"": FamilyLines.of(encoded(births), b"")}
        return lines
