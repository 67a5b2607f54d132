"""The active web configuration, and how it is reloaded when its files change."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from exporter.errors import ConfigError
from exporter.web.toolkit.auth_middleware import ActiveConfig, install_auth_middleware
from exporter.web.toolkit.loading import load_web_config
from exporter.web.toolkit.names import TOO_OLD
from exporter.web.toolkit.settings import ToolkitSettings
from exporter.web.toolkit.tls import ServerContext
from exporter.web.toolkit.watched_files import WatchedFiles

LOOK_SECONDS = 0.5


class WebConfiguration:
    """
    A web configuration that is reloaded when the content of one of its files changes.

    Units: `look_seconds` is how often the files are read; a change is active after two reads at most.
    """

    def __init__(self, file: Path, look_seconds: float = LOOK_SECONDS) -> None:
        """Read a file and the files that it names. Raises: ConfigError, with every problem."""
        self._file = file
        self._watched = WatchedFiles()
        self._look_seconds = look_seconds
        self._log = structlog.get_logger()
        self._logged_notes: set[str] = set()
        settings, context = load_web_config(file, self._watched)
        self.active = ActiveConfig.of(settings)
        self.ssl_context = None if context is None else LatestContext(ssl.PROTOCOL_TLS_SERVER)
        if self.ssl_context is not None and context is not None:
            self.ssl_context.latest = context

    @property
    def files(self) -> tuple[Path, ...]:
        """The web configuration's file and those that it names."""
        return tuple(self._watched.fingerprint)

    @asynccontextmanager
    async def applied_to(self, app: web.Application) -> AsyncIterator[None]:
        """Apply this configuration to an application, and reload it when it changes, while the block runs."""
        install_auth_middleware(app, lambda: self.active)
        self._log_active("web configuration in use")
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(), name="web configuration")
            yield
            watching.cancel()

    async def _watch(self) -> None:
        changed = None
        while True:
            await asyncio.sleep(self._look_seconds)
            now = await asyncio.to_thread(self._watched.fingerprint_now)
            if now == self._watched.fingerprint:
                changed = None
            elif now != changed:
                # Somebody may still be writing the file: reload it when two reads give the same content.
                changed = now
            else:
                changed = None
                await self._reload()

    async def _reload(self) -> None:
        files = WatchedFiles()
        try:
            settings, context = await asyncio.to_thread(load_web_config, self._file, files)
            _check_protection(self._file, self.active.settings, settings)
        except ConfigError as exc:
            problems = "; ".join(exc.problems)
            self._log.error("web configuration not taken up, the one before stays in use", error=problems)
        else:
            self.active = ActiveConfig.of(settings, self.active)
            if self.ssl_context is not None and context is not None:
                self.ssl_context.latest = context
            self._log_active("web configuration taken up")
        finally:
            # Also after an error: the same bad content must not be reported again at every look.
            self._watched = files

    def _log_active(self, message: str) -> None:
        settings = self.active.settings
        tls, limit = settings.tls_server_config, settings.rate_limit
        self._log.info(
            message,
            file=str(self._file),
            tls=tls is not None,
            client_auth=tls.client_auth_type if tls else "NoClientCert",
            users=len(settings.basic_auth_users),
            requests_per_second=1 / limit.interval_seconds if limit.interval_seconds else "unlimited",
        )
        for note in notes(settings):
            if note not in self._logged_notes:
                self._logged_notes.add(note)
                self._log.warning("web configuration", note=note)


class LatestContext(ssl.SSLContext):
    """
    A context that opens every connection with the `latest` context.

    aiohttp keeps the context that it was started with. So this one is given to it, and passes the work on.
    """

    latest: ServerContext

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.latest.wrap_bio(*args, **kwargs)


def _check_protection(file: Path, before: ToolkitSettings, now: ToolkitSettings) -> None:
    """Refuse to lose protection: a full disk may have cut the file off. Raises: ConfigError."""
    problems = []
    asked_clients = before.tls_server_config is not None and before.tls_server_config.asks_clients
    if (before.tls_server_config is None) != (now.tls_server_config is None):
        problems.append(f"{file}: tls_server_config: cannot be switched on or off without a restart")
    if asked_clients and not (now.tls_server_config and now.tls_server_config.asks_clients):
        key = "tls_server_config.client_auth_type"
        problems.append(f"{file}: {key}: cannot be switched off without a restart")
    if before.basic_auth_users and not now.basic_auth_users:
        problems.append(f"{file}: basic_auth_users: cannot be switched off without a restart")
    if problems:
        raise ConfigError(problems)


def notes(settings: ToolkitSettings) -> list[str]:
    """List the settings whose effect may not be what their author expects."""
    tls, limit, found = settings.tls_server_config, settings.rate_limit, []
    if settings.http_server_config.http2 is not None:
        found.append("http_server_config.http2 has no effect: HTTP/1.1 is spoken")
    if tls is not None and tls.min_version in TOO_OLD:
        found.append(f"tls_server_config.min_version {tls.min_version} is taken as TLS12")
    if tls is not None and tls.asks_clients and tls.client_authorities is None:
        found.append("tls_server_config has no client_ca_file: the system's authorities are trusted")
    if tls is None and settings.basic_auth_users:
        found.append("basic_auth_users without tls_server_config: passwords travel in clear text")
    if limit.interval_seconds and limit.burst == 0:
        found.append("rate_limit.burst is 0: every request is answered with 429")
    return found
