"""
Spikes over the failovers of two replicas, in real time: leases of a minute or less, scrapes every 30 s.

While a target is taken over, nothing of it is counted. Then all runs that ended are counted at once.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.alerts.engine import Engine
from tests.test_rules import RULE_FILE

Counter = NDArray[np.float64]
Series = dict[tuple[tuple[str, str], ...], Counter]

STEP_SECONDS = 30
HOUR = 3600
# A day and some hours in which the rules learn what is usual; then one takeover an hour.
BEGIN, END = 26 * HOUR, 34 * HOUR
# How long nobody polls a target: a lease that ends, and the first poll of the replica that takes it over.
TAKEOVER_SECONDS = (15, 30, 60, 120)
# How long a replica that was killed does not answer.
AWAY_SECONDS = 150
RUNS_AN_HOUR = 300
FAILED_PART = 0.16
SECONDS = np.arange(0, END)


def takeovers() -> list[tuple[int, int, int]]:
    """Give (second, length, the replica that is killed): one each hour, by turns, at different minutes."""
    return [
        (BEGIN + number * HOUR + 617 * number, TAKEOVER_SECONDS[number % 4], number % 2)
        for number in range(7)
    ]


def ended(failed_part: float, rng: np.random.Generator) -> dict[str, Counter]:
    """
    Draw the runs of a workspace that have ended by each second, by status.

    `failed_part` holds from the last takeover on.
    """
    last = takeovers()[-1][0]
    parts = np.concatenate([np.full(last, FAILED_PART), np.full(END - last, failed_part)])
    a_second = RUNS_AN_HOUR / HOUR
    return {
        "FINISHED": np.cumsum(rng.poisson(a_second * (1 - parts))).astype(float),
        "RUN_FAILED": np.cumsum(rng.poisson(a_second * parts)).astype(float),
    }


def exported(failed_part: float, *, fail_over: bool) -> Series:
    """Give what Prometheus scrapes of two replicas, each of which polls one of two workspaces every 30 s."""
    rng = np.random.default_rng(7)
    found: Series = {}
    for workspace in (0, 1):
        polled = (SECONDS - 11 * workspace) % 30 == 0
        for at, length, killed in takeovers() if fail_over else ():
            if workspace == killed:
                polled[at : at + length] = False
                polled[at + length] = True
        last_poll = np.maximum.accumulate(np.where(polled, SECONDS, 0))
        for status, counter in ended(failed_part, rng).items():
            for replica in (0, 1):
                scrapes = SECONDS[::STEP_SECONDS]
                # Each is scraped at its own moment of the interval.
                values = counter[last_poll[np.maximum(scrapes - 13 * replica, 0)]]
                for at, _, killed in takeovers() if fail_over else ():
                    if killed == replica:
                        values[(scrapes >= at) & (scrapes < at + AWAY_SECONDS)] = np.nan
                labels = {"workspace": str(workspace), "status": status, "instance": "ab"[replica]}
                labels |= {"project": "p", "job": "octopus", "job_type": "FRAME_EXTRACT"}
                found[tuple(sorted(({"__name__": "octopus_jobs_completed_total"} | labels).items()))] = values
    return found


def evaluated(failed_part: float, *, fail_over: bool = True) -> Engine:
    series = exported(failed_part, fail_over=fail_over)
    return Engine([RULE_FILE], series, step_seconds=STEP_SECONDS, keeps_intervals=True)


@pytest.mark.parametrize(("failed_part", "fires"), [(FAILED_PART, False), (0.6, True)])
def test_a_failover_is_no_spike_and_hides_none(failed_part: float, fires: bool) -> None:
    fired = evaluated(failed_part).firing("OctopusRunFailedSpike", "OctopusProjectFailedSpike")
    last = takeovers()[-1][0] // STEP_SECONDS
    assert not any(found[:last].any() for found in fired.values())
    assert any(found[last:].any() for found in fired.values()) == fires


@pytest.mark.parametrize("window", ["short", "long"])
def test_the_failures_of_a_window_are_those_that_one_exporter_would_count(window: str) -> None:
    """Neither what two replicas export nor a replica that comes back adds to them."""
    failures = f"project_job_type_status:octopus_jobs_completed:increase_{window}"
    [found], [wanted] = (
        evaluated(FAILED_PART, fail_over=there).query(failures).values() for there in (True, False)
    )
    # What a takeover delays is missing first, and is counted once it is over.
    delayed = RUNS_AN_HOUR * FAILED_PART * max(TAKEOVER_SECONDS) / HOUR
    assert np.nanmax(np.abs(found - wanted)) <= delayed + 1
