"""Prometheus' results of expressions: a promtool test expects nothing, and its report lists all results."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from benchmarks.alerts.engine import Floats, Labels

Samples = dict[Labels, float]
_COMPLAINT = re.compile(
    r'^    expr: "(?P<expr>.*)", time: (?P<time>[^,]+),'
    r"(?: err: (?P<error>.*)|\n +exp: nil\n +got: (?P<got>.*))$",
    re.MULTILINE,
)
_SAMPLE = re.compile(r'\{((?:[^"{}]|"(?:[^"\\]|\\.)*")*)\} ([-+\w.]+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def answers(
    folder: Path,
    rules: Sequence[Path],
    series: Mapping[Labels, Floats],
    expressions: Iterable[str],
    *,
    gaps_are_stale: bool,
    step_seconds: int = 60,
) -> dict[tuple[str, int], Samples | str]:
    """
    Evaluate each expression at each step, after the rules. Their groups run in the order of the files.

    Shape: by expression and step, the samples by their labels, or the error. Empty results are left out.
    """
    expressions = list(expressions)
    steps = len(next(iter(series.values())))
    test = {
        "interval": f"{step_seconds}s",
        "input_series": [
            {"series": spelled(labels), "values": notation(values, gaps_are_stale)}
            for labels, values in series.items()
        ],
        "promql_expr_test": [
            {"expr": expression, "eval_time": f"{step * step_seconds}s"}
            for step in range(steps)
            for expression in expressions
        ],
    }
    file = folder / "answers.yml"
    groups = [
        group["name"]
        for rule in rules
        for group in yaml.safe_load(rule.read_text(encoding="utf-8"))["groups"]
    ]
    whole = {
        "group_eval_order": groups,
        "rule_files": [str(rule.resolve()) for rule in rules],
        "evaluation_interval": f"{step_seconds}s",
        "tests": [test],
    }
    file.write_text(yaml.safe_dump(whole, width=1 << 20), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert "FAILED" in output, output
    by_spelling = {expression.replace('"', r"\""): expression for expression in expressions}
    found: dict[tuple[str, int], Samples | str] = {}
    for complaint in _COMPLAINT.finditer(output):
        step = round(_seconds(complaint["time"]) / step_seconds)
        spelling = complaint["expr"]
        found[by_spelling[spelling], step] = complaint["error"] or _samples(complaint["got"])
    return found


def _samples(text: str) -> Samples:
    found: Samples = {}
    for labels, value in _SAMPLE.findall(text):
        pairs = ((name, re.sub(r"\\(.)", r"\1", text)) for name, text in _LABEL.findall(labels))
        found[tuple(sorted(pairs))] = float(value.replace("Inf", "inf"))
    return found


def _seconds(duration: str) -> float:
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration))


def spelled(labels: Labels) -> str:
    pairs = dict(labels)
    name = pairs.pop("__name__")
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in pairs.items()) + "}"


def notation(values: Floats, gaps_are_stale: bool) -> str:
    """Write values in promtool's notation. A gap has no samples, or begins with a stale marker."""
    words = []
    was_there = True
    for value in values:
        is_there = not np.isnan(value)
        gap = "stale" if was_there and gaps_are_stale else "_"
        words.append(repr(float(value)).replace("inf", "Inf") if is_there else gap)
        was_there = is_there
    return " ".join(words)
