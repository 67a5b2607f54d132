"""From where on a value is worth a look, and from where on it is bad. Units: seconds, jobs, shares of 1."""

from __future__ import annotations

from grafana.panels import Steps

ANY: Steps = ((1, "red"),)
FAILURE_RATIO: Steps = ((0.05, "yellow"), (0.2, "red"))
# Failed runs of an hour.
FAILURES: Steps = ((1, "orange"), (5, "red"))
# Deviations of a Poisson count from its mean: by chance alone, 4 is rare and 5 next to never.
EXCESS: Steps = ((2, "yellow"), (4, "orange"), (5, "red"))
WAITING: Steps = ((1800, "yellow"), (7200, "red"))
# From its creation on, a job may wait and run for hours; the alerts on stuck jobs know each type's limit.
IN_FLIGHT_AGE: Steps = ((21_600, "yellow"), (86_400, "red"))
# Four polls of 30 s; ten, after which a failing target's gauges are dropped.
DATA_AGE: Steps = ((120, "yellow"), (300, "red"))
# Three audits of 10 min that did not come.
AUDIT_AGE: Steps = ((1800, "yellow"), (3600, "red"))
FAILED_POLLS: Steps = ((0.05, "yellow"), (0.5, "red"))
CLOCK_SKEW: Steps = ((60, "yellow"), (300, "red"))
# Tokens are renewed half an hour before they end; what is below has not been.
EXPIRY: Steps = ((600, "yellow"), (1200, "green"))
LOOP_LAG: Steps = ((0.1, "yellow"), (1, "red"))
