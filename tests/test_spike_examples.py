"""The examples in prometheus/README.md are what the shipped settings give."""

from __future__ import annotations

import re
from math import log
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SPIKE = yaml.safe_load((ROOT / "prometheus" / "settings.yaml").read_text(encoding="utf-8"))["spike"]
# Of a job type without a past: templates/baselines.yml.
DISPERSION = 0.004
USUALLY = (0.04, 0.25)


def score(failures: int, runs: int, expected: float) -> float:
    """Give what templates/scores.yml gives, before it is divided by the dispersion."""
    if failures <= expected:
        return 0
    rest = max(runs - failures, 0.001)
    return failures * log(failures / expected) + rest * log(rest / (runs - expected))


def pages(failures: int, runs: int, usually: float) -> bool:
    """Tell whether failures of one hour page, by the legs of the long window."""
    expected = usually * runs
    raw = score(failures, runs, expected)
    more = SPIKE["busy"] * log(1 + expected)
    # The leg of excess asks for one failure less in this window: templates/spikes.yml.
    return bool(
        (failures > SPIKE["least"] - 1 and raw / (1 + DISPERSION * runs) > SPIKE["page"]["score"] + more)
        or (
            failures > SPIKE["least"]
            and failures / runs > SPIKE["page"]["ratio"]
            and raw > SPIKE["ratio_score"] + more
        )
    )


def least(runs: int, usually: float) -> str:
    found = (failures for failures in range(1, runs + 1) if pages(failures, runs, usually))
    return str(next(found, "-"))


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_as_many_failures_page_as_the_table_says(name: str) -> None:
    text = (ROOT / "prometheus" / name).read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+|-) \|$", text, re.MULTILINE)
    assert len(rows) == 7
    for runs, *failures in rows:
        assert failures == [least(int(runs.replace(",", "")), usually) for usually in USUALLY], runs


@pytest.mark.parametrize(
    ("example", "failures", "runs", "usually"),
    [
        ("7 of 20 runs fail, where 4 % usually do", 7, 20, 0.04),
        ("18 of 100 runs fail, where 4 % usually do", 18, 100, 0.04),
        ("12 of 14 runs fail, where a quarter usually do", 12, 14, 0.25),
        ("15 of 20 runs fail, where a quarter usually do", 15, 20, 0.25),
    ],
)
def test_the_example_of_a_leg_pages_and_one_failure_less_does_not(
    example: str, failures: int, runs: int, usually: float
) -> None:
    assert example in (ROOT / "prometheus" / "README.md").read_text(encoding="utf-8")
    assert pages(failures, runs, usually)
    assert not pages(failures - 1, runs, usually)
