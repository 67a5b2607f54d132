"""
The colours of statuses and job types: the same in every panel of every dashboard.

Failures are red and orange, and nothing else is. The colours of a group can be told apart with any kind of
colour vision, on a dark and on a light background; tests/test_dashboards.py computes that.
"""

from __future__ import annotations

from typing import Literal

IN_FLIGHT_COLORS = {
    "QUEUING": "#C9B21E",
    "LAUNCHING": "#5BBCE0",
    "RUNNING": "#2F62D9",
    "UPLOADING": "#A442A8",
}
FAILED_COLORS = {
    "SUBMIT_FAILED": "#F0A136",
    "RUN_FAILED": "#D62F1A",
    "UPLOAD_FAILED": "#A33D50",
}
TERMINAL_COLORS = {"FINISHED": "#53C071", "STOPPED": "#A6A6A6", **FAILED_COLORS}
STATUS_COLORS = {**IN_FLIGHT_COLORS, **TERMINAL_COLORS}
JOB_TYPE_COLORS = {
    "FRAME_EXTRACT": "#5786F4",
    "PACKAGE_DELETE": "#A3398E",
    "PACKAGE_IMPORT": "#1EC6EF",
    "SCENARIO_AUTO_MINING": "#6F2AF0",
    "SCENARIO_EXTRACT": "#50C58F",
    "SCENARIO_TO_SIM": "#B8B91A",
}

# "series" gives each series a colour of its own; a panel of failures or warnings alone has shades of one.
Palette = Literal["series", "failures", "warnings"]
SHADES: dict[Palette, str] = {"failures": "#D62F1A", "warnings": "#F0A136"}

# Any answer of the API, by its HTTP status: good, throttled or refused, failed.
HTTP_COLORS = {"^2": "#53C071", "^4": "#F0A136", "^(5|error)": "#D62F1A"}
