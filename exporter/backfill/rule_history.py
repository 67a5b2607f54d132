"""
The order in which recording rules get their history: pure.

`promtool tsdb create-blocks-from rules` evaluates each rule by itself, from what Prometheus has. A rule sees
the records of another one only once these are loaded, also within one group. So the rules are evaluated in
stages: the first reads samples of the exporter only, each later one also the records of the stages before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Prometheus uses a sample for five minutes. Evaluating more often makes more samples, and no better ones:
# those of the history are minutes apart.
_LEAST_INTERVAL_SECONDS = 240
_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`')
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """A recording rule. Units: the interval of its group in seconds."""

    record: str
    expression: str
    labels: tuple[tuple[str, str], ...]
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class RuleHistory:
    """
    Rule files by stage, in their order.

    Shape: `left_out` names the records that read themselves or each other, and those that read such records:
    their values depend on when they began.
    """

    stages: tuple[str, ...]
    left_out: tuple[str, ...]


def rules_of(groups: Iterable[Mapping[str, Any]]) -> list[RecordingRule]:
    """Give the recording rules of groups as rule files write them, with intervals in seconds."""
    return [
        RecordingRule(
            record=rule["record"],
            expression=rule["expr"],
            labels=tuple(sorted((rule.get("labels") or {}).items())),
            interval_seconds=float(group["interval"]),
        )
        for group in groups
        for rule in group["rules"]
        if "record" in rule
    ]


def in_stages(rules: Iterable[RecordingRule], samples: Iterable[str]) -> RuleHistory:
    """
    Put the rules that read these samples, or each other's records of them, into stages.

    Shape: `samples` are the names of all samples that the history has. Rules that read none of them have no
    history.
    """
    known = set(samples)
    waiting = _with_history(list(rules), known)
    records = {rule.record for rule in waiting}
    done: set[str] = set()
    stages = []
    while waiting:
        # All rules that make one record are evaluated in the same stage.
        blocked = {rule.record for rule in waiting if (_reads(rule) & records) - done}
        ready = [rule for rule in waiting if rule.record not in blocked]
        if not ready:
            break
        stages.append(_file(ready))
        done |= {rule.record for rule in ready}
        waiting = [rule for rule in waiting if rule.record in blocked]
    return RuleHistory(tuple(stages), tuple(sorted({rule.record for rule in waiting})))


def _with_history(rules: list[RecordingRule], samples: set[str]) -> list[RecordingRule]:
    found: list[RecordingRule] = []
    names = set(samples)
    while more := [rule for rule in rules if rule not in found and _reads(rule) & names]:
        found += more
        names |= {rule.record for rule in more}
    return found


def _reads(rule: RecordingRule) -> set[str]:
    """Give the words of an expression, among them the names of all metrics that it reads."""
    return set(_NAME.findall(_STRING.sub('""', rule.expression)))


def _file(rules: list[RecordingRule]) -> str:
    by_interval: dict[int, list[dict[str, Any]]] = {}
    for rule in rules:
        # `+ 0` removes the name of all samples. An `or` may give samples with a name and samples without. Of
        # these promtool makes two series with the same labels, and refuses the second one as out of order.
        one: dict[str, Any] = {"record": rule.record, "expr": f"(\n{rule.expression}\n) + 0"}
        if rule.labels:
            one["labels"] = dict(rule.labels)
        seconds = max(int(rule.interval_seconds), _LEAST_INTERVAL_SECONDS)
        by_interval.setdefault(seconds, []).append(one)
    groups = [
        {"name": f"every-{seconds}s", "interval": f"{seconds}s", "rules": made}
        for seconds, made in sorted(by_interval.items())
    ]
    # JSON is YAML too.
    return json.dumps({"groups": groups}, ensure_ascii=False, indent=1) + "\n"
