"""The evaluation of one life: the alerts of the rules, the simple rules and the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from benchmarks.alerts.engine import Engine
from benchmarks.alerts.life import live
from benchmarks.alerts.oracle import alarms
from benchmarks.alerts.project import Flavour
from benchmarks.alerts.scrapes import Labels, scraped
from benchmarks.alerts.spikes import Spike
from benchmarks.alerts.verdict import Alert, Verdict, judge, without_pages

RULES = Path(__file__).parents[2] / "prometheus/rules/octopus.yml"
NAIVE = Path(__file__).parent / "naive.yml"
OURS, ORACLE = "pages", "oracle"
# The alerts of naive.yml, with their names in the report.
SIMPLE = {
    "NaiveIncrease": "increase[5m] > 5",
    "NaiveRatio": "a fifth of ten",
    "NaiveThreeSigma": "mean + 3 sigma",
}
_PAGES = "critical"
# When an alert fires after its `for`, its leg may no longer hold: look back so far.
_LEG_MINUTES = 2


@dataclass(frozen=True, slots=True)
class Work:
    """A life to evaluate, with the rules of this file and of naive.yml."""

    flavour: Flavour
    seed: int
    has_spikes: bool
    rules: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    The result of a life.

    Shape: `verdicts` by rule: "pages", "warnings" (those without a page), the simple rules' names, "oracle".
    `legs` names the legs that were true when a false page or warning began, by its number in `false`.
    """

    work: Work
    series_days: float
    spikes: tuple[Spike, ...]
    verdicts: Mapping[str, Verdict]
    legs: Mapping[str, tuple[str, ...]]


def evaluate(work: Work) -> Outcome:
    life = live(work.flavour, work.seed, work.has_spikes)
    engine = Engine([work.rules, NAIVE], scraped(life, histograms=False))
    spike_alerts = [name for name in _alert_names(work.rules) if "Spike" in name]
    ours = engine.stretches(*spike_alerts)
    pages = [alert for alert in ours if alert.severity == _PAGES]
    warnings = without_pages([alert for alert in ours if alert.severity != _PAGES], pages)
    alerts = {OURS: pages, "warnings": warnings}
    alerts |= {title: engine.stretches(name) for name, title in SIMPLE.items()}
    alerts[ORACLE] = alarms(life)
    verdicts = {rule: judge(found, life.spikes) for rule, found in alerts.items()}
    series = _leg_series(engine, work.rules)
    legs = {
        rule: tuple(_legs(series, alert) for alert in verdicts[rule].false) for rule in (OURS, "warnings")
    }
    return Outcome(work, life.series_days, life.spikes, verdicts, legs)


def _alert_names(rules: Path) -> list[str]:
    return _names(rules, "alert")


def _names(rules: Path, kind: str) -> list[str]:
    """Return the names of a file's alerts or records, each once."""
    groups = yaml.load(rules.read_text(encoding="utf-8"), yaml.CSafeLoader)["groups"]
    return list(dict.fromkeys(rule[kind] for group in groups for rule in group["rules"] if kind in rule))


def _leg_series(engine: Engine, rules: Path) -> list[tuple[dict[str, str], np.ndarray]]:
    records = [name for name in _names(rules, "record") if name.endswith("spike_leg")]
    found: list[tuple[Labels, np.ndarray]] = [
        pair for name in records for pair in engine.series(name).items()
    ]
    return [(dict(labels), values) for labels, values in found]


def _legs(series: Sequence[tuple[dict[str, str], np.ndarray]], alert: Alert) -> str:
    """Return the legs that held when an alert began: those of its labels, or the project's."""
    begin = max(0, alert.begin - _LEG_MINUTES)
    wanted = {name: alert.labels.get(name) for name in ("project", "job_type", "status", "severity")}
    names = {
        labels.get("leg", "?")
        for labels, values in series
        if all(labels.get(name) in (None, value) for name, value in wanted.items())
        and np.isfinite(values[begin : alert.begin + 1]).any()
    }
    return " + ".join(sorted(names)) or "?"
