"""
What options offer and default to. The command line needs it before it knows which command runs.

So nothing may be imported here but the standard library.
"""

from __future__ import annotations

from enum import StrEnum

# Where `demo` and `simulate` listen.
HOST = "127.0.0.1"
# `jobs`: so many rows of the table fill a few screens.
TABLE_ROWS = 50


class RunFormat(StrEnum):
    """How `jobs` prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class CheckFormat(StrEnum):
    """How `check` prints."""

    TABLE = "table"
    JSON = "json"


class Kind(StrEnum):
    """The kinds of `files`."""

    CONFIG = "config"
    RULES = "rules"
    DASHBOARDS = "dashboards"
    UNITS = "units"


class RuleFormat(StrEnum):
    """The format of rules: a rule file, or the object that the Prometheus Operator reads."""

    PROMETHEUS = "prometheus"
    PROMETHEUS_RULE = "prometheusrule"
