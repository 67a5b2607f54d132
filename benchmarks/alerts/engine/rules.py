"""Rule files: groups, records and alerts, each evaluated for all steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import promql_parser as promql
import yaml

from benchmarks.alerts.engine.expressions import Evaluator, selectors
from benchmarks.alerts.engine.storage import Block, Matcher, Moments, Storage, matchers_of, scraped
from benchmarks.alerts.engine.vectors import (
    NAME,
    Bools,
    EvaluationError,
    Floats,
    Ints,
    Labels,
    Vector,
    changed,
    joined,
)
from benchmarks.alerts.promtool import Firing
from benchmarks.alerts.scrapes import Values
from benchmarks.alerts.verdict import Alert

_LOOKBACK_MS = 5 * 60_000
_READS_ALL = 1 << 30
# Many times faster, if PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RulesRefused(Exception):
    """Prometheus would refuse a rule, or this engine does not support it. The message has rule and reason."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `every`: the steps between two evaluations; `position`: its position among all rules."""

    group: str
    is_alert: bool
    name: str
    expression: promql.Expr
    labels: Mapping[str, str]
    hold_ms: int
    keep_ms: int
    every: int
    position: int

    def __str__(self) -> str:
        return f"group {self.group}, {'alert' if self.is_alert else 'record'} {self.name}"

    @property
    def records(self) -> tuple[str, ...]:
        """The names of its result series."""
        return ("ALERTS", "ALERTS_FOR_STATE") if self.is_alert else (self.name,)

    def may_record(self, matchers: Iterable[Matcher]) -> bool:
        """Tell whether a series of this rule may match."""
        known = {**self.labels, **({"alertname": self.name} if self.is_alert else {})}
        asked = [one for one in matchers if one.label in known or one.label == NAME]
        return any(all(one.matches(known | {NAME: name}) for one in asked) for name in self.records)


class Engine:
    """
    The rules of some files, over series on a regular grid of time.

    A rule is evaluated when a query needs it.

    Raises: RulesRefused, from every method, for a rule that is refused or unsupported.
    """

    def __init__(
        self,
        files: Sequence[Path],
        series: Mapping[Labels, Floats],
        *,
        step_seconds: int = 60,
        gaps_are_stale: bool = True,
        keeps_intervals: bool = False,
        is_version_3: bool = False,
        lookback_seconds: int = 300,
    ) -> None:
        """
        Shape: each array of `series` has a value for each step from time 0 on, NaN for a missing sample.

        `gaps_are_stale`: a series without a sample ends at once, as after a scrape that lacks it, and as
        `promtool.notation` writes it. Else its last sample is valid for `lookback_seconds`.
        `keeps_intervals`: groups are evaluated at their own intervals, as by Prometheus, in whole steps. Else
        each is at every step, as by promtool, which does not know intervals.
        `is_version_3`: as Prometheus 3 does, whose windows leave out their oldest edge. Else as 2.42 does.
        """
        if not series:
            raise ValueError("there are no series to evaluate rules over")
        self._steps = len(next(iter(series.values())))
        step_ms = step_seconds * 1000
        self._storage = Storage(step_ms, self._steps, lookback_seconds * 1000, is_version_3)
        self._storage.add(scraped(dict(series), gaps_are_stale))
        self._rules = _rules(files, step_ms, keeps_intervals)
        self._by_name: dict[str, list[Rule]] = {}
        for rule in self._rules:
            for name in rule.records:
                self._by_name.setdefault(name, []).append(rule)
        self._evaluated: set[int] = set()
        self._underway: list[Rule] = []

    def series(self, name: str) -> dict[Labels, Floats]:
        """Return the series of a record or of a scraped metric: a value for each step, NaN for none."""
        return self.query(name)

    def query(self, expression: str) -> dict[Labels, Floats]:
        """Evaluate an expression at every step, after all rules. Raises: ValueError if it is not PromQL."""
        vector = self.vector(expression)
        cells = vector.nan_where_absent()
        return {labels: cells[row] for row, labels in enumerate(vector.labels) if vector.present[row].any()}

    def vector(self, expression: str) -> Vector:
        """Like `query`, but a sample with the value NaN differs from a missing one."""
        node = promql.parse(expression)
        try:
            self._evaluate_for(node)
            return Evaluator(self._storage, _READS_ALL).vector(node, Moments(self._every(1)))
        except EvaluationError as exc:
            raise RulesRefused(f"{expression}: {exc}") from exc

    def firing(self, *names: str) -> dict[tuple[str, Labels], Bools]:
        """
        Return the steps at which alerts fire, by name and labels: of the named alerts, or of all.

        The labels have the rule's own, and neither `alertname` nor `alertstate`.
        """
        found: dict[tuple[str, Labels], Bools] = {}
        for name in names or dict.fromkeys(rule.name for rule in self._rules if rule.is_alert):
            for labels, values in self.query(f'ALERTS{{alertname="{name}",alertstate="firing"}}').items():
                kept = tuple(pair for pair in labels if pair[0] not in {NAME, "alertname", "alertstate"})
                found[name, kept] = ~np.isnan(values)
        return found

    def firings(self, *names: str) -> list[Firing]:
        """Return the same as `promtool.run`; `minute` counts steps."""
        return sorted(
            (
                Firing(int(step), name, labels)
                for (name, labels), fires in self.firing(*names).items()
                for step in np.flatnonzero(fires)
            ),
            key=lambda firing: (firing.minute, firing.alert, firing.labels),
        )

    def stretches(self, *names: str) -> list[Alert]:
        """Return the same as `verdict.stretches` of the firings, in steps."""
        found = []
        for (name, pairs), fires in self.firing(*names).items():
            labels = dict(pairs)
            for begin, end in _runs(fires):
                found.append(Alert(name, labels.get("severity", ""), labels, begin, end))
        return found

    def _every(self, steps: int) -> Ints:
        return np.arange(0, self._steps, steps, dtype=np.int64) * self._storage.step_ms

    def _evaluate_for(self, node: promql.Expr) -> None:
        """Evaluate all rules that an expression reads."""
        for selector in selectors(node):
            matchers = matchers_of(selector)
            names = [one.value for one in matchers if one.label == NAME and one.op == "MatchOp.Equal"]
            for rule in self._by_name.get(names[0], ()) if names else self._rules:
                if rule.position not in self._evaluated and rule.may_record(matchers):
                    self._evaluate(rule)

    def _evaluate(self, rule: Rule) -> None:
        if rule in self._underway:
            around = " reads ".join(map(str, [*self._underway[self._underway.index(rule) :], rule]))
            raise RulesRefused(f"rules that read each other are not supported: {around}")
        self._underway.append(rule)
        try:
            self._evaluate_for(rule.expression)
            times = self._every(rule.every)
            vector = Evaluator(self._storage, rule.position).vector(rule.expression, Moments(times))
            result = _alerted(rule, vector, times) if rule.is_alert else _recorded(rule, vector)
            self._storage.add(self._block(rule, result))
        except EvaluationError as exc:
            raise RulesRefused(f"{rule}: {exc}") from exc
        finally:
            self._underway.pop()
        self._evaluated.add(rule.position)

    def _block(self, rule: Rule, vector: Vector) -> Block:
        """Store the result of a rule. A series that is missing in the next result gets a stale marker."""
        some = np.flatnonzero(vector.present.any(axis=1))
        vector = vector.rows([int(row) for row in some])
        if rule.every == 1:
            return Block(vector, rule.position)
        shape = (len(vector.labels), self._steps)
        values, present, stale = np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        values[:, :: rule.every], present[:, :: rule.every] = vector.values, vector.present
        stale[:, rule.every :: rule.every] = vector.present[:, :-1] & ~vector.present[:, 1:]
        return Block(Vector(vector.labels, values, present), rule.position, ends_stale=False, stale=stale)


def read(series: Iterable[tuple[str, Values]]) -> dict[Labels, Floats]:
    """Read series as `scrapes.Exporter.series` gives them: `name{label="value",...}` and values or None."""
    found: dict[Labels, Floats] = {}
    for name, values in series:
        selector = promql.parse(name)
        if not isinstance(selector, promql.VectorSelector):
            raise ValueError(f"{name}: not a series")
        pairs = [(one.label, one.value) for one in matchers_of(selector)]
        found[tuple(sorted(pairs))] = np.array([np.nan if v is None else v for v in values], np.float64)
    return found


def _rules(files: Iterable[Path], step_ms: int, keeps_intervals: bool) -> list[Rule]:
    found: list[Rule] = []
    for file in files:
        for group in yaml.load(file.read_text(encoding="utf-8"), _LOADER)["groups"]:
            interval = _milliseconds(group.get("interval", "0s")) if keeps_intervals else 0
            if interval > step_ms and interval % step_ms:
                raise RulesRefused(f"group {group['name']}: its interval is no multiple of the step")
            every = max(1, interval // step_ms)
            for rule in group["rules"]:
                found.append(_rule(group["name"], rule, every, len(found)))
    return found


def _rule(group: str, rule: Mapping[str, object], every: int, position: int) -> Rule:
    is_alert = "alert" in rule
    name = str(rule["alert" if is_alert else "record"])
    place = f"group {group}, {'alert' if is_alert else 'record'} {name}"
    labels = {key: str(value) for key, value in dict(rule.get("labels") or {}).items()}  # type: ignore[call-overload]
    if any("{{" in value for value in labels.values()):
        raise RulesRefused(f"{place}: labels from templates are not supported")
    try:
        expression = promql.parse(str(rule["expr"]))
    except ValueError as exc:
        raise RulesRefused(f"{place}: {exc}") from exc
    hold_ms, keep_ms = (_milliseconds(str(rule.get(key, "0s"))) for key in ("for", "keep_firing_for"))
    return Rule(group, is_alert, name, expression, labels, hold_ms, keep_ms, every, position)


def _milliseconds(duration: str) -> int:
    return 0 if duration in {"0", "0s"} else round(promql.parse_duration(duration).total_seconds() * 1000)


def _recorded(rule: Rule, vector: Vector) -> Vector:
    return vector.relabelled(lambda labels: changed(labels, {NAME: rule.name, **rule.labels}))


def _alerted(rule: Rule, vector: Vector, times: Ints) -> Vector:
    """Make the series ALERTS and ALERTS_FOR_STATE."""
    own = {NAME: "", **rule.labels, "alertname": rule.name}
    found = vector.relabelled(lambda labels: changed(labels, own))
    pending, firing = np.zeros(found.present.shape, np.bool_), np.zeros(found.present.shape, np.bool_)
    since = np.zeros(found.values.shape)
    for row, present in enumerate(found.present):
        _go_through(rule, present, times, pending[row], firing[row], since[row])
    ones = np.ones(since.shape)
    return joined(
        [
            _named(found, ones, pending, {NAME: "ALERTS", "alertstate": "pending"}),
            _named(found, ones, firing, {NAME: "ALERTS", "alertstate": "firing"}),
            _named(found, since, pending | firing, {NAME: "ALERTS_FOR_STATE"}),
        ],
        len(times),
    )


def _named(vector: Vector, values: Floats, present: Bools, labels: dict[str, str]) -> Vector:
    return Vector(tuple(changed(one, labels) for one in vector.labels), values, present)


def _go_through(
    rule: Rule, present: Bools, times: Ints, pending: Bools, firing: Bools, since: Floats
) -> None:
    """Compute the states of an alert at all steps. Source: AlertingRule.Eval of Prometheus 2.42."""
    active_at = None
    runs = _runs(present)
    for at, (begin, end) in enumerate(runs):
        if active_at is None:
            active_at = int(times[begin])
        fires_from = begin + int(np.searchsorted(times[begin : end + 1], active_at + rule.hold_ms))
        pending[begin:fires_from] = True
        firing[fires_from : end + 1] = True
        since[begin : end + 1] = active_at / 1000
        if fires_from > end:
            active_at = None
            continue
        gone = end + 1
        back = runs[at + 1][0] if at + 1 < len(runs) else len(times)
        if gone < len(times):
            kept = gone + int(np.searchsorted(times[gone:back], times[gone] + rule.keep_ms))
            firing[gone:kept] = True
            since[gone:kept] = active_at / 1000
            if kept < back:
                active_at = None


def _runs(steps: Bools) -> list[tuple[int, int]]:
    """Return the first and the last step of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], steps, [False])).astype(np.int8)))
    return [(int(begin), int(end) - 1) for begin, end in edges.reshape(-1, 2)]
