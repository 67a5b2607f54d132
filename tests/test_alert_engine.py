"""The benchmark's rule engine, held to promtool sample by sample: expressions, and rules in their order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.alerts.engine import Engine, Floats, RulesRefused
from tests.alert_expressions import EXPRESSIONS, RULES, STEPS, drawn, labels
from tests.e2e.prometheus import program
from tests.promtool_answers import Samples, answers


def assert_same(
    engine: Engine, expressions: Sequence[str], expected: Mapping[tuple[str, int], Samples | str], steps: int
) -> int:
    """Hold the engine to promtool's answers; give how many samples were compared."""
    compared = 0
    for expression in expressions:
        by_step = [expected.get((expression, step), {}) for step in range(steps)]
        if any(isinstance(answer, str) for answer in by_step):
            with pytest.raises(RulesRefused):
                engine.vector(expression)
            continue
        vector = engine.vector(expression)
        for step, answer in enumerate(by_step):
            assert isinstance(answer, dict)
            got = {
                labels: float(vector.values[row, step])
                for row, labels in enumerate(vector.labels)
                if vector.present[row, step]
            }
            assert got.keys() == answer.keys(), f"{expression} at step {step}"
            wrong = {key: (got[key], answer[key]) for key in answer if not _equal(got[key], answer[key])}
            assert not wrong, f"{expression} at step {step}: {wrong}"
            compared += len(answer)
    return compared


def _equal(one: float, other: float) -> bool:
    same_nan = math.isnan(one) and math.isnan(other)
    return same_nan or one == other or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-11)


@pytest.mark.prometheus
@pytest.mark.parametrize("gaps_are_stale", [True, False])
def test_expressions_are_what_promtool_makes_of_them(tmp_path: Path, gaps_are_stale: bool) -> None:
    program("promtool")
    series = drawn(seed=1)
    expected = answers(tmp_path, [], series, EXPRESSIONS, gaps_are_stale=gaps_are_stale)
    engine = Engine([], series, gaps_are_stale=gaps_are_stale)
    assert assert_same(engine, EXPRESSIONS, expected, STEPS) > 30_000


@pytest.mark.prometheus
def test_a_step_of_30_s(tmp_path: Path) -> None:
    program("promtool")
    expressions = [one for one in EXPRESSIONS if "[" in one or "offset" in one or "time" in one]
    series = drawn(seed=2)
    expected = answers(tmp_path, [], series, expressions, gaps_are_stale=False, step_seconds=30)
    engine = Engine([], series, gaps_are_stale=False, step_seconds=30)
    assert assert_same(engine, expressions, expected, STEPS) > 5_000


@pytest.mark.prometheus
@pytest.mark.parametrize("gaps_are_stale", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_rules_in_their_order_and_alerts_in_their_states(
    tmp_path: Path, seed: int, gaps_are_stale: bool
) -> None:
    program("promtool")
    file = tmp_path / "rules.yml"
    file.write_text(RULES, encoding="utf-8")
    series = drawn(seed)
    records = [
        rule["record"]
        for group in yaml.safe_load(RULES)["groups"]
        for rule in group["rules"]
        if "record" in rule
    ]
    asked = [*records, "ALERTS", "ALERTS_FOR_STATE"]
    expected = answers(tmp_path, [file], series, asked, gaps_are_stale=gaps_are_stale)
    engine = Engine([file], series, gaps_are_stale=gaps_are_stale)
    assert assert_same(engine, asked, expected, STEPS) > 5_000


# Whole numbers: what compares them must not hang on the last bit of a mean.
_EXACT = st.sampled_from(
    [
        "c",
        "d",
        "c offset 2m",
        'd{a="x"}',
        "sum_over_time(d[4m])",
        "max_over_time(c[6m])",
        "min_over_time(d[5m] offset 1m)",
        "count_over_time(c[7m])",
        "last_over_time(d[9m])",
        "changes(d[8m])",
        "resets(c[9m])",
        "sum_over_time(c[9m:2m])",
        "timestamp(d)",
        "sum by (a) (c)",
        "max without (a) (d)",
        "count by (b) (c)",
    ]
)
_ANY = st.one_of(
    _EXACT,
    st.sampled_from(
        [
            "increase(c[6m])",
            "rate(c[4m] offset 1m)",
            "irate(c[5m])",
            "delta(d[7m])",
            "deriv(d[9m])",
            "avg_over_time(d[6m])",
            "stddev_over_time(c[8m])",
            "quantile_over_time(0.7, d[7m])",
            "avg_over_time(rate(c[3m])[10m:3m])",
            "avg by (a) (c)",
            "stddev without (b) (d)",
            "quantile by (a) (0.4, d)",
            "absent(c)",
        ]
    ),
)
_MATCHING = st.sampled_from(
    ["", "on (a, b)", "ignoring (b)", "on (a) group_left ()", "on (b) group_right ()"]
)
_SET_MATCHING = st.sampled_from(["", "on (a, b)", "on (a)", "ignoring (b)", "on ()"])
_COMBINED = st.one_of(
    st.builds("({}) {} {} ({})".format, _ANY, st.sampled_from(["+", "-", "*"]), _MATCHING, _ANY),
    st.builds("({}) {} {} ({})".format, _ANY, st.sampled_from(["/", "%"]), _MATCHING, _EXACT),
    st.builds(
        "({}) {} {} ({})".format,
        _EXACT,
        st.sampled_from(["==", "!=", ">", "<", ">=", "<=", "> bool", "== bool"]),
        _MATCHING,
        _EXACT,
    ),
    st.builds("({}) {} {} ({})".format, _ANY, st.sampled_from(["and", "or", "unless"]), _SET_MATCHING, _ANY),
    st.builds(
        "{} by ({}) ({})".format, st.sampled_from(["sum", "min", "max", "avg"]), st.sampled_from("ab"), _ANY
    ),
    st.builds("({} {} 1) or ({})".format, _EXACT, st.sampled_from([">", "<=", "=="]), _ANY),
    st.builds(
        "{}_over_time(({})[{}m:{}m])".format,
        st.sampled_from(["sum", "max", "count"]),
        _ANY,
        st.integers(1, 12),
        st.integers(1, 5),
    ),
)
_SAMPLES = st.one_of(st.none(), st.integers(0, 4))


def _values(steps: int) -> st.SearchStrategy[Floats]:
    lists = st.lists(_SAMPLES, min_size=steps, max_size=steps)
    return lists.map(lambda values: np.array([np.nan if v is None else float(v) for v in values]))


@pytest.mark.prometheus
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), gaps_are_stale=st.booleans())
def test_drawn_expressions_over_drawn_series(
    tmp_path: Path, data: st.DataObject, gaps_are_stale: bool
) -> None:
    program("promtool")
    steps = 24
    series = {labels("always"): np.ones(steps)}
    for name, a, b in ("cx1", "cx2", "cy1", "dx1", "dy1", "dy2"):
        series[labels(name, a=a, b=b)] = data.draw(_values(steps))
    expressions = data.draw(st.lists(_COMBINED, min_size=8, max_size=8, unique=True))
    expected = answers(tmp_path, [], series, [*expressions, "always"], gaps_are_stale=gaps_are_stale)
    assert_same(Engine([], series, gaps_are_stale=gaps_are_stale), expressions, expected, steps)


# --- what promtool cannot show


def counted(groups: str, tmp_path: Path, **options: bool) -> Engine:
    file = tmp_path / "rules.yml"
    file.write_text(groups, encoding="utf-8")
    values = np.arange(20.0)
    values[10:] = np.nan
    return Engine([file], {labels("x"): values, labels("always"): np.ones(20)}, **options)


def found(engine: Engine, expression: str) -> list[float | None]:
    """Give the values of the only series."""
    (values,) = engine.query(expression).values()
    return [None if np.isnan(value) else float(value) for value in values]


def test_a_group_is_evaluated_at_its_own_interval(tmp_path: Path) -> None:
    """Between two evaluations the last sample is seen; what is not found again is gone at the next."""
    groups = """
groups:
- name: slow
  interval: 3m
  rules:
  - {record: slow, expr: x}
  - {record: of_later, expr: later}
  - {alert: Slow, expr: x >= 3, for: 3m}
- name: fast
  interval: 30s
  rules:
  - {record: fast, expr: slow}
  - {record: later, expr: always}
"""
    engine = counted(groups, tmp_path, keeps_intervals=True)
    seen = [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 6.0, 6.0, 6.0, 9.0, 9.0, 9.0] + [None] * 8
    assert found(engine, "fast") == seen
    assert found(engine, "count_over_time(slow[6m])")[6:13] == [3, 2, 2, 3, 2, 2, 2]
    assert found(engine, "of_later") == [None] * 3 + [1.0] * 17
    assert np.flatnonzero(engine.firing("Slow")["Slow", ()]).tolist() == [6, 7, 8, 9, 10, 11]


def test_windows_of_prometheus_3_leave_out_their_oldest_edge(tmp_path: Path) -> None:
    rules = "groups: []"
    older, newer = counted(rules, tmp_path), counted(rules, tmp_path, is_version_3=True)
    assert [found(engine, "count_over_time(x[5m])")[9] for engine in (older, newer)] == [6, 5]
    assert [found(engine, "count_over_time(x[6m:2m])")[8] for engine in (older, newer)] == [4, 3]
    kept = [counted(rules, tmp_path, gaps_are_stale=False, is_version_3=new) for new in (False, True)]
    assert [found(engine, "x")[14] for engine in kept] == [9, None]


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("expr: histogram_sum(x)", "the function histogram_sum is not supported"),
        ("expr: x atan2 x", "the operator atan2 is not supported"),
        ("expr: 'count_values(\"v\", x)'", "the aggregation count_values is not supported"),
        ("expr: x @ 60", "the modifier @ is not supported"),
        ("expr: x offset -1m", "negative offsets are not supported"),
        ("expr: x + on () group_left () {__name__=~'x|always'}", "several series on the `one` side match {}"),
        ("expr: '{__name__=~\"x|always\"} * 1'", "more than one sample has the labels {}"),
        ("expr: own offset 5m", "rules that read each other are not supported: "),
        ("{expr: x, labels: {a: '{{ $value }}'}}", "labels from templates are not supported"),
        ("expr: x +", "invalid promql query"),
    ],
)
def test_what_is_not_supported_is_said(tmp_path: Path, rule: str, complaint: str) -> None:
    fields = yaml.safe_load(rule)
    text = yaml.safe_dump({"groups": [{"name": "group", "rules": [{"record": "own", **fields}]}]})
    with pytest.raises(RulesRefused) as refusal:
        counted(text, tmp_path).series("own")
    assert "group group, record own" in str(refusal.value)
    assert complaint in str(refusal.value)


def test_two_rules_do_not_record_the_same_series(tmp_path: Path) -> None:
    rules = [{"record": "own", "expr": "x"}, {"record": "own", "expr": "x + 1"}]
    text = yaml.safe_dump({"groups": [{"name": "group", "rules": rules}]})
    with pytest.raises(RulesRefused, match="another rule records the same series of own"):
        counted(text, tmp_path).series("own")
