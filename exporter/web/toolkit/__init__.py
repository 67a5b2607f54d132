"""
The web configuration file of the Prometheus exporter-toolkit: TLS, users, headers and a rate limit.

Source: exporter-toolkit, docs/web-configuration.md and web/tls_config.go, version of 2026, read 2026-11.
"""

from exporter.web.toolkit.configuration import WebConfiguration

__all__ = ["WebConfiguration"]
