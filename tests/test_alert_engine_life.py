"""The shipped rules over a drawn life: the benchmark's engine and promtool fire at the same steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.alerts import promtool
from benchmarks.alerts.engine import Bools, Engine, Floats, Ints, Labels, read
from benchmarks.alerts.verdict import stretches
from tests.alert_expressions import labels
from tests.e2e.prometheus import program
from tests.promtool_answers import spelled

ROOT = Path(__file__).parent.parent
RULE_FILES = (ROOT / "prometheus/rules/octopus.yml",)
MINUTES = 38 * 60
# promtool evaluates every rule at every step, so each second minute costs half as much.
STEP_MINUTES = 2
FAILED = ("SUBMIT_FAILED", "RUN_FAILED", "UPLOAD_FAILED")
TARGET = {"project": "p", "workspace": "0", "job": "octopus", "instance": "exporter"}
LEDGER_LOST = 1770


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A job type's runs in an hour, and the share of them that usually fails.

    Shape: a spike is (hour of its begin, hours, share that fails, times as many runs).
    """

    job_type: str
    per_hour: float
    usual: float
    spikes: tuple[tuple[float, float, float, float], ...]


KINDS = (
    Kind("PACKAGE_IMPORT", 40, 0.04, ((3, 0.5, 0.9, 1), (27, 1, 0.5, 1), (33, 0.1, 1, 20))),
    Kind("SCENARIO_TO_SIM", 6, 0.25, ((10, 2, 1, 1), (30, 6, 0.6, 2))),
)


class Exporter:
    """What an exporter shows of a project: with restarts, pauses of the API and a lost ledger."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.minutes = np.arange(MINUTES)
        self.answers = away((700, 2), (1500, 4), (1700, 70))
        works = self.answers & away((300, 12), (1210, 95), (1900, 25))
        self.shown = np.maximum.accumulate(np.where(works, self.minutes, 0))

    def series(self) -> dict[Labels, Floats]:
        last_success = 60.0 * self.shown.astype(float) - 15
        up = self.answers.astype(float)
        polled = (self.shown == self.minutes).astype(float)
        found = {
            labels("up", job="octopus", instance="exporter"): up,
            labels("octopus_up", **TARGET): np.where(self.answers, polled, np.nan),
            labels("octopus_poll_last_success_timestamp_seconds", **TARGET): np.where(
                self.answers, last_success, np.nan
            ),
        }
        for kind in KINDS:
            found |= self.counters(kind) | self.gauges(kind)
        return found

    def scraped(self, values: Floats) -> Floats:
        return np.where(self.answers, values[self.shown], np.nan)

    def counter(self, each_minute: Ints) -> Floats:
        total = np.cumsum(each_minute).astype(float)
        return self.scraped(np.where(self.minutes >= LEDGER_LOST, total - total[LEDGER_LOST], total))

    def counters(self, kind: Kind) -> dict[Labels, Floats]:
        runs, share = np.full(MINUTES, kind.per_hour / 60), np.full(MINUTES, kind.usual)
        for begin, hours, failing, times in kind.spikes:
            span = slice(round(begin * 60), round((begin + hours) * 60))
            share[span], runs[span] = failing, runs[span] * times
        ended = self.rng.poisson(runs)
        failures = self.rng.binomial(ended, share)
        by_status = dict(zip(FAILED, self.rng.multinomial(failures, (0.1, 0.8, 0.1)).T, strict=True))
        by_status |= {"FINISHED": ended - failures, "STOPPED": self.rng.poisson(0.01, MINUTES)}
        found = {}
        for status, each in by_status.items():
            pairs = {**TARGET, "job_type": kind.job_type, "status": status}
            found[labels("octopus_jobs_completed_total", **pairs)] = self.counter(each)
            if status in FAILED:
                of_spike = self.rng.binomial(each, np.where(share > kind.usual, 0.9, 0.2))
                for code, part in (("1001", each - of_spike), ("9001", of_spike)):
                    values = self.counter(part)
                    values[: np.argmax(part > 0)] = np.nan
                    found[labels("octopus_job_failures_total", msg_code=code, **pairs)] = values
        return found

    def gauges(self, kind: Kind) -> dict[Labels, Floats]:
        """Draw what waits and runs: jobs that come and go, a backlog towards the end."""
        found = {}
        for status in ("QUEUING", "RUNNING"):
            pairs = {**TARGET, "job_type": kind.job_type, "status": status}
            jobs = np.clip(np.cumsum(self.rng.integers(-2, 3, MINUTES)), 0, 60) + (self.minutes > 2000) * 40
            since = np.where(jobs > 0, self.minutes * 60.0 - self.rng.integers(60, 30_000), np.nan)
            found[labels("octopus_jobs", **pairs)] = self.scraped(jobs.astype(float))
            for moment in ("created", "started"):
                name = f"octopus_jobs_oldest_{moment}_timestamp_seconds"
                found[labels(name, **pairs)] = self.scraped(since)
        return found


def away(*spans: tuple[int, int]) -> Bools:
    """Say for each minute that it is in none of the spans: (begin, minutes)."""
    is_there = np.ones(MINUTES, np.bool_)
    for begin, length in spans:
        is_there[begin : begin + length] = False
    return is_there


@pytest.mark.prometheus
def test_the_shipped_rules_fire_at_the_same_steps_as_in_promtool(tmp_path: Path) -> None:
    program("promtool")
    series = {key: values[::STEP_MINUTES] for key, values in Exporter(seed=1).series().items()}
    told = [
        (spelled(key), [None if np.isnan(value) else float(value) for value in values])
        for key, values in series.items()
    ]
    expected = promtool.run(tmp_path, RULE_FILES, told, MINUTES // STEP_MINUTES, STEP_MINUTES)
    assert read(told).keys() == series.keys()
    engine = Engine(RULE_FILES, series, step_seconds=60 * STEP_MINUTES)
    # The dead man's switch, which always fires, is not asked of promtool.
    found = [firing for firing in engine.firings() if firing.alert != "OctopusWatchdog"]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert sorted(stretches(found), key=repr) == sorted(stretches(expected), key=repr)
    fired = {firing.alert for firing in expected}
    assert len(fired) >= 6
    assert any("Spike" in name for name in fired)
