"""Recording and alerting rules for Prometheus, generated from templates and settings."""

from exporter.rules.generation import RULES, as_prometheus_rule, generate
from exporter.rules.loading import SETTINGS, load_settings, merged
from exporter.rules.settings import Settings

__all__ = ["RULES", "SETTINGS", "Settings", "as_prometheus_rule", "generate", "load_settings", "merged"]
