"""The leg that looks at six hours, over a week of history: promtool would take minutes for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from benchmarks.alerts.engine import Engine
from tests.test_rules import RULE_FILE

HOUR = 60
BEGIN, END = 8 * 24 * HOUR, 8 * 24 * HOUR + 6 * HOUR
LABELS = {"project": "p", "workspace": "0", "job": "octopus", "instance": "a"}


def series(name: str, **labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"__name__": name, **LABELS, **labels}.items()))


def recorded_of(name: str, **labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"__name__": name, "project": "p", **labels}.items()))


def counter(*spans: tuple[int, float]) -> NDArray[np.float64]:
    """Give a counter over spans of minutes, each with so many an hour."""
    return np.cumsum(np.concatenate([np.full(minutes, an_hour / HOUR) for minutes, an_hour in spans]))


@pytest.mark.parametrize(("an_hour", "fires"), [(6.0, True), (2.0, False)])
def test_failures_that_drip_for_hours_are_a_spike_of_hours(an_hour: float, fires: bool) -> None:
    finished = counter((END, 60))
    failed = counter((BEGIN, 1), (END - BEGIN, an_hour))
    jobs = "octopus_jobs_completed_total"
    engine = Engine(
        [RULE_FILE],
        {
            series(jobs, job_type="FRAME_EXTRACT", status="FINISHED"): finished,
            series(jobs, job_type="FRAME_EXTRACT", status="RUN_FAILED"): failed,
        },
    )
    legs = engine.query("project_job_type_status:octopus_jobs_completed:spike_leg")
    found = {dict(labels)["leg"] for labels, values in legs.items() if np.isfinite(values[BEGIN:]).any()}
    assert found == ({"hours_excess"} if fires else set())
    assert not any(np.isfinite(values[24 * HOUR : BEGIN]).any() for values in legs.values())


@pytest.mark.parametrize(("failed_part", "severities"), [(0.16, set()), (0.9, {"critical", "warning"})])
@pytest.mark.parametrize("first_runs", [0, 1])
def test_days_without_runs_are_no_history(first_runs: int, failed_part: float, severities: set[str]) -> None:
    """After a quiet weekend, the first campaign fires only if it would fire on the first day of a project."""
    campaign, end, an_hour = 2 * 24 * HOUR + 1, 2 * 24 * HOUR + 5 * HOUR, 480
    engine = Engine(
        [RULE_FILE],
        {
            series("octopus_jobs_completed_total", job_type="FRAME_EXTRACT", status=status): counter(
                (campaign - HOUR, 0), (HOUR, first), (end - campaign, part * an_hour)
            )
            for status, part, first in (
                ("FINISHED", 1 - failed_part, first_runs),
                ("RUN_FAILED", failed_part, 0),
            )
        },
        keeps_intervals=True,
    )
    fired = engine.firing("OctopusRunFailedSpike")
    assert {dict(labels)["severity"] for (_, labels), found in fired.items() if found.any()} == severities


def test_an_outage_of_one_job_type_pages_once_the_page_of_its_project_has_ended() -> None:
    spread, outage, end = 2 * 24 * HOUR, 2 * 24 * HOUR + 40, 2 * 24 * HOUR + 3 * HOUR
    spread_over = counter((spread, 0), (12, 20), (end - spread - 12, 0))
    failed = dict.fromkeys("ABCDE", spread_over)
    failed["E"] = counter((outage, 0), (end - outage, 60))
    finished = dict.fromkeys("ABCD", counter((end, 20))) | {"E": counter((outage, 60), (end - outage, 0))}
    jobs = "octopus_jobs_completed_total"
    engine = Engine(
        [RULE_FILE],
        {
            series(jobs, job_type=job_type, status=status): counts
            for status, of in (("FINISHED", finished), ("RUN_FAILED", failed))
            for job_type, counts in of.items()
        },
    )
    [of_project] = engine.firing("OctopusProjectFailedSpike").values()
    of_type = {
        dict(labels)["job_type"]: fires
        for (_, labels), fires in engine.firing("OctopusRunFailedSpike").items()
        if dict(labels)["severity"] == "critical"
    }
    assert list(of_type) == ["E"]
    assert not (of_project & of_type["E"]).any()
    assert (of_project | of_type["E"])[outage + 10 :].all(), "an outage that goes on without a page"


@pytest.mark.parametrize(("hours_away", "fires"), [(6, False), (30, True)])
def test_what_is_usual_outlasts_a_pause_of_prometheus(tmp_path: Path, hours_away: int, fires: bool) -> None:
    """Until the group octopus-hours comes again, a job type that always fails is known as such."""
    rules = yaml.safe_load(RULE_FILE.read_text(encoding="utf-8"))
    rules["groups"] = [group for group in rules["groups"] if group["name"] != "octopus-hours"]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rules), encoding="utf-8")
    back = hours_away * HOUR
    recorded = np.full(back + HOUR, np.nan)
    recorded[:HOUR] = 1.0
    failed = np.concatenate([np.full(back, np.nan), counter((HOUR, 60))])
    engine = Engine(
        [file],
        {
            series("octopus_jobs_completed_total", job_type="FRAME_EXTRACT", status="RUN_FAILED"): failed,
            recorded_of("project:octopus_job_runs:is_known_week"): recorded,
            recorded_of(
                "project_job_type_status:octopus_jobs_completed:ratio_week",
                job_type="FRAME_EXTRACT",
                status="RUN_FAILED",
            ): 0.95 * recorded,
            recorded_of("project_job_type:octopus_job_runs:dispersion_week", job_type="FRAME_EXTRACT"): 0.004
            * recorded,
        },
    )
    assert any(found.any() for found in engine.firing("OctopusRunFailedSpike").values()) == fires
