"""The configuration: read from YAML and the environment, checked as a whole, frozen."""

from exporter.config.addresses import JobUrl, ListenAddress, iam_endpoint, octopus_endpoint
from exporter.config.credentials import (
    AccessKeySettings,
    AnyCredentials,
    ChainSettings,
    PasswordSettings,
    TokenSettings,
)
from exporter.config.durations import format_duration, parse_duration
from exporter.config.ledger_url import LedgerUrl
from exporter.config.loading import load
from exporter.config.secret import Secret
from exporter.config.settings import Config, EventSettings, LedgerSettings, WebSettings
from exporter.config.shard import Shard

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
    "PasswordSettings",
    "Secret",
    "Shard",
    "TokenSettings",
    "WebSettings",
    "format_duration",
    "iam_endpoint",
    "load",
    "octopus_endpoint",
    "parse_duration",
]
