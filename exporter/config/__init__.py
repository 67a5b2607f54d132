"""
The configuration: read from YAML and the environment, checked as a whole, frozen.

    document      YAML -> plain values and where they stand
    environment   ${VAR}
    settings      the models and their defaults (credentials: those of the credentials)
    explanation   what is wrong -> one line each
    loading       all of it: `load`
"""

from exporter.config.credentials import (
    AccessKeySettings,
    AnyCredentials,
    ChainSettings,
    PasswordSettings,
    TokenSettings,
)
from exporter.config.durations import format_duration, parse_duration
from exporter.config.endpoints import iam_endpoint, octopus_endpoint
from exporter.config.job_url import JobUrl
from exporter.config.ledger_url import LedgerUrl
from exporter.config.listening import ListenAddress
from exporter.config.loading import load
from exporter.config.schema import json_schema
from exporter.config.secret import Secret
from exporter.config.settings import (
    Config,
    EventSettings,
    LedgerSettings,
    LogSettings,
    MetricsSettings,
    PollSettings,
    ProjectSettings,
    WebSettings,
)

__all__ = [
    "AccessKeySettings",
    "AnyCredentials",
    "ChainSettings",
    "Config",
    "EventSettings",
    "JobUrl",
    "LedgerSettings",
    "LedgerUrl",
    "ListenAddress",
    "LogSettings",
    "MetricsSettings",
    "PasswordSettings",
    "PollSettings",
    "ProjectSettings",
    "Secret",
    "TokenSettings",
    "WebSettings",
    "format_duration",
    "iam_endpoint",
    "json_schema",
    "load",
    "octopus_endpoint",
    "parse_duration",
]
