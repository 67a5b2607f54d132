"""The leg that looks at six hours, over a week of history: promtool would take minutes for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.alerts.engine import Engine
from tests.test_rules import RULE_FILE

HOUR = 60
BEGIN, END = 8 * 24 * HOUR, 8 * 24 * HOUR + 6 * HOUR
LABELS = {"project": "p", "workspace": "0", "job": "octopus", "instance": "a"}


def series(name: str, **labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"__name__": name, **LABELS, **labels}.items()))


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
