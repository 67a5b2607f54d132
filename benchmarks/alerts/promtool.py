"""
`promtool test rules`: Prometheus' own rule engine, with `for` and `keep_firing_for`, over simulated time.

The test expects no firing alert at every minute. The failures that promtool reports are the firing alerts.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.alerts.scrapes import Values

_COMPLAINT = re.compile(r'expr: "ALERTS[^\n]*time: (?P<time>[^,]+),\n(?P<rest>(?:(?!\n\s+expr:).)*)', re.S)
_GROUP = re.compile(r"^ *- name: (\S+)$", re.M)
_SAMPLE = re.compile(r"\{(?P<labels>[^}]*alertstate[^}]*)\}")
_LABEL = re.compile(r'(\w+)=\\?"((?:[^"\\]|\\\\.)*?)\\?"')
_UNIT_MINUTES = {"w": 7 * 1440.0, "d": 1440.0, "h": 60.0, "m": 1.0, "s": 1 / 60}


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fired at a minute; `labels` without those Prometheus adds."""

    minute: int
    alert: str
    labels: tuple[tuple[str, str], ...]


class RulesFailed(Exception):
    """promtool failed to run the rules."""


def run(
    folder: Path,
    rules: Sequence[Path],
    series: Iterable[tuple[str, Values]],
    steps: int,
    step_minutes: int = 1,
) -> list[Firing]:
    """
    Run the rules over the series, scraped and evaluated at each step. `Firing.minute` counts steps.

    Raises: RulesFailed, with the output of promtool.
    """
    file = folder / "test.yml"
    with file.open("w", encoding="utf-8") as test:
        test.writelines(_test(rules, series, steps, step_minutes))
    command = ["promtool", "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "FAILED" not in done.stderr + done.stdout and done.returncode:
        raise RulesFailed(done.stderr or done.stdout)
    return list(_firings(done.stdout + done.stderr, step_minutes))


def _test(
    rules: Sequence[Path], series: Iterable[tuple[str, Values]], steps: int, step_minutes: int
) -> Iterator[str]:
    yield "rule_files:\n"
    yield from (f"  - {rule.resolve()}\n" for rule in rules)
    yield f"evaluation_interval: {step_minutes}m\n"
    # promtool evaluates groups that are not named here in an order that is drawn anew at each run.
    names = [name for rule in rules for name in _GROUP.findall(rule.read_text(encoding="utf-8"))]
    yield f"group_eval_order: [{', '.join(names)}]\n"
    yield f"tests:\n  - interval: {step_minutes}m\n    input_series:\n"
    for name, values in series:
        yield f"      - series: '{name}'\n        values: '{' '.join(notation(values))}'\n"
    yield "    promql_expr_test:\n"
    expression = 'ALERTS{alertstate="firing",severity!="none"}'
    for step in range(steps):
        yield f"      - {{expr: '{expression}', eval_time: {step * step_minutes}m}}\n"


def notation(values: Values) -> Iterator[str]:
    """Write values in promtool's notation: constant slopes as one word, the first missing value as stale."""
    start = 0
    while start < len(values):
        end, word = _run(values, start)
        if values[start] is None:
            yield "stale"
            start += 1
        if end > start:
            yield word if values[start] is not None else f"_x{end - start}"
        start = end


def _run(values: Values, start: int) -> tuple[int, str]:
    """Return the end of the slope, or of the missing values, that begins here."""
    first = values[start]
    end = start + 1
    if first is None:
        while end < len(values) and values[end] is None:
            end += 1
        return end, ""
    second = values[end] if end < len(values) else None
    if second is None:
        return end, f"{first:.0f}"
    step = second - first
    while end < len(values) and values[end] is not None and values[end] == first + step * (end - start):
        end += 1
    if end - start < 3:
        return start + 1, f"{first:.0f}"
    return end, f"{first:.0f}{step:+.0f}x{end - start - 1}"


def _firings(output: str, step_minutes: int) -> Iterator[Firing]:
    for complaint in _COMPLAINT.finditer(output):
        step = round(_minutes(complaint["time"]) / step_minutes)
        for sample in _SAMPLE.finditer(complaint["rest"]):
            labels = dict(_LABEL.findall(sample["labels"]))
            alert = labels.pop("alertname")
            for name in ("__name__", "alertstate"):
                labels.pop(name, None)
            yield Firing(step, alert, tuple(sorted(labels.items())))


def _minutes(duration: str) -> float:
    return sum(float(n) * _UNIT_MINUTES[unit] for n, unit in re.findall(r"(\d+)([wdhms])", duration))
