"""
The rules that a test of promtool needs.

promtool evaluates every rule of a file at every step. A test is several times as fast with only the alerts
that it asks for and the records that they read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

_WORD = re.compile(r"[A-Za-z_:][\w:]*")


def needed_rules(text: str, alerts: Iterable[str]) -> str:
    """Return a rule file with these alerts and all records that their expressions and texts read."""
    groups: list[dict[str, Any]] = yaml.load(text, yaml.CSafeLoader)["groups"]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        for rule in group["rules"]:
            by_name.setdefault(rule.get("record") or rule["alert"], []).append(rule)
    needed: set[str] = set()
    waiting = set(alerts)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting |= {word for rule in by_name[name] for word in _words(rule) if word in by_name} - needed
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if (rule.get("record") or rule["alert"]) in needed]
    kept = [group for group in groups if group["rules"]]
    return yaml.dump({"groups": kept}, Dumper=yaml.CSafeDumper, sort_keys=False, width=1 << 20)


def _words(rule: dict[str, Any]) -> set[str]:
    """Return all words of an expression and its texts: metrics, labels and functions."""
    # An alert that reads other alerts would need those as well: none does.
    assert "ALERTS" not in rule["expr"]
    texts = [rule["expr"], *rule.get("annotations", {}).values()]
    return {word for text in texts for word in _WORD.findall(text)}


def asked_alerts(tests: Iterable[dict[str, Any]]) -> set[str]:
    """Return the alerts that promtool's tests look at."""
    checks = [check for test in tests for check in test.get("promql_expr_test", ())]
    by_expression = {re.search(r"alertname=[\"'](\w+)[\"']", check["expr"]) for check in checks}
    assert None not in by_expression
    by_text = {check["alertname"] for test in tests for check in test.get("alert_rule_test", ())}
    return by_text | {found[1] for found in by_expression if found}


def with_needed_rules(folder: Path, document: dict[str, Any], rules: str) -> list[Path]:
    """
    Write a document of tests into a folder, with the rules that they need. Returns the files of tests.

    Tests of the same alerts share a file.
    """
    by_alerts: dict[frozenset[str], list[dict[str, Any]]] = {}
    for test in document["tests"]:
        by_alerts.setdefault(frozenset(asked_alerts([test])), []).append(test)
    written = []
    for number, (alerts, tests) in enumerate(by_alerts.items()):
        own_rules, own_tests = folder / f"rules-{number}.yml", folder / f"tests-{number}.yml"
        own_rules.write_text(needed_rules(rules, alerts), encoding="utf-8")
        whole = document | {"rule_files": [own_rules.name], "tests": tests}
        own_tests.write_text(yaml.dump(whole, Dumper=yaml.CSafeDumper, width=1 << 20), encoding="utf-8")
        written.append(own_tests)
    return written
