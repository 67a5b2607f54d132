"""Rules for Prometheus, and the example for Alertmanager, generated from templates and settings."""

from exporter.rules.generation import (
    ALERTMANAGER,
    RULE_OBJECT,
    RULES,
    as_prometheus_rule,
    generate,
    generate_alertmanager,
)
from exporter.rules.loading import SETTINGS, load_settings, merged
from exporter.rules.settings import Settings

__all__ = [
    "ALERTMANAGER",
    "RULES",
    "RULE_OBJECT",
    "SETTINGS",
    "Settings",
    "as_prometheus_rule",
    "generate",
    "generate_alertmanager",
    "load_settings",
    "merged",
]
