"""The time until a backlog is cleared, as Prometheus computes it from queues that are simulated here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.alerts.engine import Floats, Labels
from tests.promtool_answers import Samples, answers
from tests.test_rules import RULE_FILE

pytestmark = pytest.mark.prometheus

STEP_SECONDS = 120
HOUR = 3600 // STEP_SECONDS
STEPS = 6 * HOUR
CLEARS = "project_job_type:octopus_backlog_clear_seconds:expected"
TREND = "project_job_type:octopus_backlog_clear_seconds:delta"
ARRIVALS = "project_job_type:octopus_backlog_arrivals:rate"
SERVICE = "project_job_type:octopus_backlog_service:rate"
OF_PROJECT = "project:octopus_backlog_clear_seconds:expected"
Computed = dict[tuple[str, int], Samples | str]
IN_FLIGHT = "project_job_type_status:octopus_jobs:sum"


@dataclass(frozen=True, slots=True)
class Queue:
    """The jobs that wait at each step, and those that have started."""

    waiting: Floats
    started: Floats


def a_queue(
    came: Callable[[float], float], starts: Callable[[float], float], waiting: int = 0, at_once: int = 0
) -> Queue:
    """Simulate a queue: rates for each hour, as functions of the hour; `at_once` come together after one."""
    jobs, begun, coming, able = waiting, 0, 0.0, 0.0
    waits, started = [], []
    for step in range(STEPS):
        hour = step / HOUR
        coming += came(hour) / HOUR + at_once * (step == HOUR)
        jobs, coming = jobs + int(coming), coming % 1
        # A free node that no job wants is not kept for later.
        able = min(able, 1) + starts(hour) / HOUR
        start = min(int(able), jobs)
        jobs, able, begun = jobs - start, able - start, begun + start
        waits.append(jobs)
        started.append(begun)
    return Queue(np.array(waits, float), np.array(started, float))


def never(hour: float) -> float:
    return 0


def always(rate: float) -> Callable[[float], float]:
    return lambda hour: rate


CAMPAIGN = a_queue(never, always(60), at_once=300)
QUEUES = {
    "campaign": CAMPAIGN,
    "grows": a_queue(lambda hour: 40 if hour < 1 else 90, always(60)),
    "halved": a_queue(always(45), lambda hour: 60 if hour < 2 else 30, waiting=20),
    "stops": a_queue(never, lambda hour: 60 if hour < 3 else 0, at_once=300),
    "stands": a_queue(never, never, at_once=30),
    "seldom": a_queue(never, always(1.5), waiting=12),
    "light": a_queue(always(30), always(60)),
    "few": a_queue(always(1), always(1), waiting=4),
}


def scraped(project: str, queue: Queue, instance: str = "a", workspace: str = "0") -> dict[Labels, Floats]:
    where = {"project": project, "workspace": workspace, "instance": instance, "job_type": "FRAME_EXTRACT"}
    found = {
        ("octopus_jobs", "QUEUING"): np.floor(queue.waiting / 2),
        ("octopus_jobs", "LAUNCHING"): np.ceil(queue.waiting / 2),
        ("octopus_jobs", "RUNNING"): np.full(STEPS, 40.0),
        ("octopus_job_submitting_duration_seconds_count", None): queue.started,
    }
    return {
        tuple(sorted({"__name__": name, **where, **({"status": status} if status else {})}.items())): values
        for (name, status), values in found.items()
    }


def without(values: Floats, begin: int, end: int) -> Floats:
    return np.where((np.arange(STEPS) >= begin) & (np.arange(STEPS) < end), nan, values)


def all_series() -> dict[Labels, Floats]:
    series: dict[Labels, Floats] = {}
    for project, queue in QUEUES.items():
        series |= scraped(project, queue)
    # The first replica is lost after two and a half hours. The other one has the same ledger.
    lost = Queue(*(without(values, HOUR * 5 // 2, STEPS) for values in (CAMPAIGN.waiting, CAMPAIGN.started)))
    series |= scraped("replicas", lost) | scraped("replicas", CAMPAIGN, "b")
    # The exporter is restarted with an empty ledger: its counters begin again.
    reset = np.where(
        np.arange(STEPS) < 2 * HOUR, CAMPAIGN.started, CAMPAIGN.started - CAMPAIGN.started[2 * HOUR]
    )
    series |= scraped("reset", Queue(CAMPAIGN.waiting, reset))
    # The exporter is down for half an hour, and counts all starts of this time at its first poll.
    gap = (HOUR * 2, HOUR * 5 // 2)
    series |= scraped("down", Queue(without(CAMPAIGN.waiting, *gap), without(CAMPAIGN.started, *gap)))
    # Two workspaces of a project are one queue.
    return series | scraped("two", CAMPAIGN) | scraped("two", CAMPAIGN, workspace="1")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    """Evaluate the rules of backlogs alone, over all queues."""
    groups: list[dict[str, Any]] = yaml.safe_load(RULE_FILE.read_text(encoding="utf-8"))["groups"]
    kept = [
        rule
        for group in groups
        for rule in group["rules"]
        if "_backlog_" in rule.get("record", "") or rule.get("record") == IN_FLIGHT
    ]
    folder: Path = tmp_path_factory.mktemp("backlog")
    rules = folder / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "backlog", "rules": kept}]}, width=1 << 20))
    asked = [CLEARS, TREND, ARRIVALS, SERVICE, OF_PROJECT]
    return answers(folder, [rules], all_series(), asked, gaps_are_stale=True, step_seconds=STEP_SECONDS)


@dataclass(frozen=True, slots=True)
class At:
    """What the rules say of a project at a time, in hours and jobs an hour. NaN where they say nothing."""

    arrivals: float
    service: float
    clears: float
    trend: float
    of_project: float


def said(computed: Computed, project: str, hour: float) -> At:
    def value(name: str) -> float:
        found = computed.get((name, round(hour * HOUR)), {})
        assert not isinstance(found, str), found
        return next((value for labels, value in found.items() if dict(labels)["project"] == project), nan)

    return At(
        value(ARRIVALS) * 3600,
        value(SERVICE) * 3600,
        value(CLEARS) / 3600,
        value(TREND) / 3600,
        value(OF_PROJECT) / 3600,
    )


@pytest.mark.parametrize("project", ["campaign", "replicas", "reset", "down"])
def test_a_batch_that_came_at_once_clears_as_fast_as_its_jobs_start(computed: Computed, project: str) -> None:
    """Its arrivals do not go on. Neither a lost replica, a new ledger nor a restart changes that."""
    for hour in (1.5, 1.9, 3.5, 4.5):
        now = said(computed, project, hour)
        truly = CAMPAIGN.waiting[round(hour * HOUR)] / 60
        assert now.service == pytest.approx(60, rel=0.05), (hour, now)
        assert now.clears == pytest.approx(truly, rel=0.15), (hour, now)
        assert now.of_project == now.clears
    assert said(computed, project, 5.5).trend == pytest.approx(-1, abs=0.1)


def test_workspaces_of_a_project_are_one_queue(computed: Computed) -> None:
    one, two = (said(computed, project, 3.5) for project in ("campaign", "two"))
    assert two.service == pytest.approx(2 * one.service)
    assert two.clears == pytest.approx(one.clears)


def test_a_queue_with_more_arrivals_than_starts_does_not_clear(computed: Computed) -> None:
    assert said(computed, "grows", 3).clears == inf
    assert said(computed, "grows", 3).arrivals == pytest.approx(90, rel=0.05)
    assert said(computed, "grows", 3).service == pytest.approx(60, rel=0.05)
    # It was infinite an hour ago already: there is no trend.
    assert np.isnan(said(computed, "grows", 5).trend)


def test_a_loss_of_capacity_shows_once_jobs_wait(computed: Computed) -> None:
    """While the queue was empty, the starts were as many as the arrivals, and not what the nodes could do."""
    assert np.isnan(said(computed, "halved", 1.9).clears)
    assert said(computed, "halved", 1.9).service == pytest.approx(60, rel=0.05)
    assert said(computed, "halved", 4).service == pytest.approx(30, rel=0.1)
    assert said(computed, "halved", 4).clears == inf


def test_starts_that_stop_move_the_end_further_away(computed: Computed) -> None:
    before, after, later = (said(computed, "stops", hour) for hour in (2.9, 4, 5))
    assert before.clears == pytest.approx(3.1, rel=0.1)
    assert after.trend > 3
    assert after.service < 6
    # An hour without a start says that the rate is about two an hour at most.
    assert later.service == pytest.approx(2, rel=0.1)
    assert later.clears > 80


def test_a_queue_without_any_start_does_not_clear(computed: Computed) -> None:
    assert said(computed, "stands", 2).service == 0
    assert said(computed, "stands", 2).clears == inf


def test_starts_that_are_rare_are_a_rate(computed: Computed) -> None:
    """An hour may pass without one."""
    services = [said(computed, "seldom", hour).service for hour in (2, 2.5, 3, 3.5, 4)]
    assert services == pytest.approx([1.5] * 5, rel=0.25)
    assert all(0 < said(computed, "seldom", hour).clears < 24 for hour in (2, 3, 4))


@pytest.mark.parametrize("project", ["light", "few"])
def test_a_queue_of_few_jobs_has_no_forecast(computed: Computed, project: str) -> None:
    for hour in range(1, 6):
        now = said(computed, project, hour)
        assert [np.isnan(value) for value in (now.service, now.clears, now.trend)] == [True] * 3
    assert said(computed, "light", 3).arrivals == pytest.approx(30, rel=0.05)
