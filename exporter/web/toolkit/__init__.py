"""
The web configuration file of the Prometheus exporter-toolkit: TLS, users, headers and a rate limit.

    names          what Go calls ciphers, curves and versions -> what OpenSSL calls them
    settings       the models (scalars: their values)
    sources        the files that were read, and whether they changed
    together       what has to hold between keys (explanation: what pydantic found)
    loading        file -> settings and a TLS context, or every problem there is
    tls            settings -> TLS context
    client_policy  whom a handshake lets in (connection: the handshake itself)
    basic_auth     users and passwords
    rate_limit     a token bucket
    configuration  what is in use, and how it follows the files
    gate           all of it in front of the pages

Source: exporter-toolkit, docs/web-configuration.md and web/tls_config.go, version of 2026, read 2026-11.
"""

from exporter.web.toolkit.auth_middleware import Gate
from exporter.web.toolkit.configuration import WebConfiguration

__all__ = ["Gate", "WebConfiguration"]
