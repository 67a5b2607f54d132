"""
The six job types as data: how many there are, when, how long they take, how they end and why they fail.

The figures are invented to look like a project at work; nothing about the real service is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp
from random import Random
from statistics import NormalDist
from typing import NamedTuple

_STEPS = 1024
_NORMAL = tuple(NormalDist().inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS))


class Spread:
    """
    A log-normal duration, by its median and the deviation of its logarithm.

    It is drawn from a table of its quantiles: a million jobs draw four million of these at start.
    """

    def __init__(self, median_seconds: float, sigma: float) -> None:
        self._quantiles_ms = tuple(10 + int(1000 * median_seconds * exp(sigma * z)) for z in _NORMAL)

    def draw_ms(self, rng: Random) -> int:
        return self._quantiles_ms[int(rng.random() * _STEPS)]


class Cause(NamedTuple):
    """Why a run failed. A `code` of 0 is a failure that gives neither code nor text."""

    code: int
    message: str
    weight: float


SUBMIT_CAUSES = (
    Cause(1001, "Insufficient resources: no node fits the resource specification.", 5),
    Cause(1002, "Pulling the operator image failed.", 3),
    Cause(1003, "The job quota of the workspace is used up.", 2),
)
UPLOAD_CAUSES = (
    Cause(4001, "Writing the results to OBS was denied.", 4),
    Cause(4002, "The bucket quota is used up.", 3),
    Cause(0, "", 1),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """
    What the jobs of one type are like.

    Shape: `share` of the arrivals; `swing` 0 to 1 is how far the rate moves around its mean over a day, with
    the peak at `peak_hour` UTC; `outcomes` gives terminal statuses their parts of 1; `causes` by failure.
    """

    job_type: str
    share: float
    peak_hour: int
    swing: float
    resource_spec: str
    queue: Spread
    launch: Spread
    run: Spread
    upload: Spread
    outcomes: Mapping[str, float]
    causes: Mapping[str, tuple[Cause, ...]] = field(default_factory=dict)


def _outcomes(submit: float, run: float, upload: float, stopped: float) -> dict[str, float]:
    """Weigh the terminal statuses by the percentages that do not finish."""
    return {
        "FINISHED": (100 - submit - run - upload - stopped) / 100,
        "STOPPED": stopped / 100,
        "SUBMIT_FAILED": submit / 100,
        "RUN_FAILED": run / 100,
        "UPLOAD_FAILED": upload / 100,
    }


def _causes(*run: Cause) -> dict[str, tuple[Cause, ...]]:
    return {"SUBMIT_FAILED": SUBMIT_CAUSES, "RUN_FAILED": run, "UPLOAD_FAILED": UPLOAD_CAUSES}


PROFILES = (
    Profile(
        job_type="PACKAGE_IMPORT",
        share=0.28,
        peak_hour=2,
        swing=0.7,
        resource_spec="2Core_8GiB",
        queue=Spread(15, 0.9),
        launch=Spread(10, 0.4),
        run=Spread(480, 0.9),
        upload=Spread(40, 0.7),
        outcomes=_outcomes(submit=0.8, run=3.0, upload=1.0, stopped=1.0),
        causes=_causes(
            Cause(2001, "The data package is damaged: checksum mismatch.", 5),
            Cause(2002, "The data package holds no calibration file.", 3),
            Cause(0, "", 1),
        ),
    ),
    Profile(
        job_type="PACKAGE_DELETE",
        share=0.10,
        peak_hour=9,
        swing=0.8,
        resource_spec="1Core_4GiB",
        queue=Spread(5, 0.6),
        launch=Spread(6, 0.3),
        run=Spread(20, 0.7),
        upload=Spread(2, 0.3),
        outcomes=_outcomes(submit=0.3, run=0.7, upload=0.2, stopped=0.3),
        causes=_causes(Cause(2101, "The data package is in use by another job.", 1)),
    ),
    Profile(
        job_type="SCENARIO_AUTO_MINING",
        share=0.18,
        peak_hour=16,
        swing=0.9,
        resource_spec="8Core_32GiB",
        queue=Spread(60, 1.1),
        launch=Spread(20, 0.5),
        run=Spread(1500, 0.8),
        upload=Spread(60, 0.6),
        outcomes=_outcomes(submit=1.5, run=5.0, upload=1.0, stopped=2.0),
        causes=_causes(
            Cause(3101, "The mining operator ran out of memory.", 5),
            Cause(3102, "The mining operator exceeded its time limit.", 3),
            Cause(0, "", 1),
        ),
    ),
    Profile(
        job_type="SCENARIO_TO_SIM",
        share=0.14,
        peak_hour=7,
        swing=0.8,
        resource_spec="4Core_16GiB",
        queue=Spread(20, 0.9),
        launch=Spread(15, 0.4),
        run=Spread(360, 0.7),
        upload=Spread(30, 0.6),
        outcomes=_outcomes(submit=0.8, run=4.0, upload=0.8, stopped=1.0),
        causes=_causes(
            Cause(3201, "The scenario names a map element that does not exist.", 4),
            Cause(3202, "The trajectory of the ego vehicle has gaps.", 3),
        ),
    ),
    Profile(
        job_type="FRAME_EXTRACT",
        share=0.18,
        peak_hour=6,
        swing=0.7,
        resource_spec="4Core_16GiB",
        queue=Spread(25, 1.0),
        launch=Spread(12, 0.4),
        run=Spread(900, 0.8),
        upload=Spread(90, 0.7),
        outcomes=_outcomes(submit=1.0, run=3.5, upload=1.5, stopped=1.2),
        causes=_causes(
            Cause(3001, "A camera topic is missing in the data package.", 5),
            Cause(3002, "Decoding the video stream failed.", 3),
        ),
    ),
    Profile(
        job_type="SCENARIO_EXTRACT",
        share=0.12,
        peak_hour=8,
        swing=0.8,
        resource_spec="4Core_16GiB",
        queue=Spread(30, 0.9),
        launch=Spread(12, 0.4),
        run=Spread(600, 0.8),
        upload=Spread(45, 0.6),
        outcomes=_outcomes(submit=0.8, run=3.0, upload=0.8, stopped=1.0),
        causes=_causes(
            Cause(3301, "The time range lies outside the data package.", 4),
            Cause(3302, "The label file has an unknown format.", 2),
        ),
    ),
)


def invented(job_type: str) -> Profile:
    """Give a type the documentation does not know the ways of a known one."""
    return replace(PROFILES[0], job_type=job_type, share=0.0)


def known_messages() -> dict[int, str]:
    """Return every failure text by its code."""
    return {
        cause.code: cause.message
        for profile in PROFILES
        for causes in profile.causes.values()
        for cause in causes
        if cause.code
    }
