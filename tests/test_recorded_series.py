"""The recorded series: each has a reader, and a target has no more of them than it needs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from os.path import commonprefix
from pathlib import Path

import pytest
import yaml

from exporter.model import FAILED_STATUSES, IN_FLIGHT_STATUSES, JOB_TYPES, STATUSES, TERMINAL_STATUSES
from exporter.rules import RULES, generate
from tests.e2e.prometheus import program
from tests.promql import selectors
from tests.test_rules import changed, rules

ROOT = Path(__file__).parent.parent
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").rglob("*.json"))
GUIDES = [ROOT / "prometheus" / name for name in ("README.md", "README.zh-CN.md")]
RECORDS = sorted({rule["record"] for rule in rules() if "record" in rule})

_RECORDED = re.compile(r"[a-z_]+:[a-z_]+:[a-z_]+")

# One project with one workspace, all documented job types, and failures of every kind with two error codes.
PER_TARGET = 440


def test_the_readers_are_those_that_there_are() -> None:
    """The names in README's table are recorded, and the texts that are searched have names in them."""
    assert DASHBOARDS
    assert set(_to_build_on(GUIDES[0])) <= set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_a_recorded_series_has_a_reader(name: str) -> None:
    """Another rule, an alert's text or a dashboard; or README names it as one to build on."""
    assert list(readers(name)), f"nothing reads {name}: do not record it"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_what_to_build_on_is_recorded_and_the_same_in_both_languages(guide: Path) -> None:
    named = list(_to_build_on(guide))
    assert named == list(_to_build_on(GUIDES[0]))
    assert [name for name in named if name not in RECORDS] == []


@pytest.mark.prometheus
def test_a_target_has_no_more_recorded_series_than_agreed(tmp_path: Path) -> None:
    # Days of two hours: all baselines are there after a few of them.
    settings = changed(baseline={"days": 2, "day": "2h", "least": "1h"})
    (tmp_path / RULES).write_text(generate(settings)[RULES], encoding="utf-8")
    count = 'count({__name__=~".+:.+",project="p"})'
    expected = [
        {"expr": f"{count} > bool 50", "eval_time": "6h", "exp_samples": [{"labels": "{}", "value": 1}]},
        {"expr": f"{count} > {PER_TARGET}", "eval_time": "6h"},
    ]
    test = {"interval": "2m", "input_series": list(_one_target()), "promql_expr_test": expected}
    document = {"rule_files": [RULES], "evaluation_interval": "2m", "tests": [test]}
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run(
        [program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def readers(name: str) -> Iterator[str]:
    """Name what reads a recorded series: rules, their texts, dashboards, and who is told to build on it."""
    for rule in rules():
        of = rule.get("record") or rule["alert"]
        if of != name and name in {selector.name for selector in selectors(rule["expr"])}:
            yield of
        if any(name in _RECORDED.findall(text) for text in rule.get("annotations", {}).values()):
            yield f"text of {of}"
    for file in DASHBOARDS:
        if name in _RECORDED.findall(file.read_text(encoding="utf-8")):
            yield file.name
    if name in _to_build_on(GUIDES[0]):
        yield GUIDES[0].name


def _to_build_on(guide: Path) -> Iterator[str]:
    """
    Give the names in the table of a guide.

    Shape: after `a:b:c_short`, `…_long` is the record with such an end that has most in common with the name
    before. What is no record is given as it is written.
    """
    before = ""
    for row in re.findall(r"^\| (`[^|]+:[^|]+`) \|", guide.read_text(encoding="utf-8"), re.MULTILINE):
        for token in re.findall(r"`([^`]+)`", row):
            head, *parts = token.split("…")
            pattern = re.compile(head + "".join(".*" + part for part in parts))
            alike = [name for name in RECORDS if name != before and pattern.fullmatch(name)]
            before = max(alike, key=partial(_in_common, before), default=token)
            yield before


def _in_common(one: str, other: str) -> int:
    """Count the characters with which both begin."""
    return len(commonprefix((one, other)))  # noqa: RUF071 - these are no paths


def _one_target() -> Iterator[dict[str, str]]:
    def series(name: str, values: str, **labels: str) -> dict[str, str]:
        labels = {"job": "octopus", "instance": "a", "project": "p", "workspace": "0", **labels}
        pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
        return {"series": f"{name}{{{pairs}}}", "values": values}

    # Now and then a failure of each kind, and twenty times as many that finish.
    rare = " ".join(str(step // 20) for step in range(200))
    yield series("octopus_up", "1x200")
    yield series("octopus_poll_last_success_timestamp_seconds", "0+120x200")
    for job_type in JOB_TYPES:
        yield series("octopus_jobs_created_total", "0+1x200", job_type=job_type)
        for status in TERMINAL_STATUSES:
            values = rare if status in FAILED_STATUSES else "0+1x200"
            yield series("octopus_jobs_completed_total", values, job_type=job_type, status=status)
        for status in FAILED_STATUSES:
            for code in ("3001", "3302"):
                labels = {"job_type": job_type, "status": status, "msg_code": code}
                yield series("octopus_job_failures_total", rare, **labels)
        for status in STATUSES:
            yield series("octopus_jobs", "5x200", job_type=job_type, status=status)
        for status in IN_FLIGHT_STATUSES:
            for name in ("created", "started"):
                oldest = f"octopus_jobs_oldest_{name}_timestamp_seconds"
                yield series(oldest, "1000+120x200", job_type=job_type, status=status)
