"""The web configuration in use, and how it follows the files it was read from."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from exporter.errors import ConfigError
from exporter.web.toolkit.basic_auth import BasicAuth
from exporter.web.toolkit.connection import ServerContext
from exporter.web.toolkit.loading import Loaded, load_web_config
from exporter.web.toolkit.names import TOO_OLD
from exporter.web.toolkit.rate_limit import RateLimiter
from exporter.web.toolkit.settings import WebSettings
from exporter.web.toolkit.watched_files import Sources

LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class InUse:
    """What every request and every new connection is held to."""

    settings: WebSettings
    headers: Mapping[str, str]
    auth: BasicAuth | None
    limiter: RateLimiter | None

    @classmethod
    def of(cls, settings: WebSettings, before: InUse | None = None) -> InUse:
        """Put settings to use; what did not change keeps what it remembers."""
        users, limit = settings.basic_auth_users, settings.rate_limit
        auth = BasicAuth(users) if users else None
        limiter = RateLimiter(limit.interval_seconds, limit.burst) if limit.interval_seconds else None
        if before is not None and before.settings.basic_auth_users == users:
            auth = before.auth
        if before is not None and before.settings.rate_limit == limit:
            limiter = before.limiter
        return cls(settings, settings.http_server_config.headers.given(), auth, limiter)


class WebConfiguration:
    """
    A web configuration that is read again whenever one of its files holds something else.

    Units: `look_seconds` is how often the files are looked at; a change is taken up within two looks.
    """

    def __init__(
        self, file: Path, loaded: Loaded, sources: Sources, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._file = file
        self._sources = sources
        self._look_seconds = look_seconds
        self._log = structlog.get_logger()
        self._told: set[str] = set()
        self.using = InUse.of(loaded.settings)
        self.ssl_context = None if loaded.context is None else LatestContext.first(loaded.context)

    @classmethod
    def load(cls, file: Path, look_seconds: float = LOOK_SECONDS) -> WebConfiguration:
        """Read a file and all that it names. Raises: ConfigError, with every problem."""
        sources = Sources()
        return cls(file, load_web_config(file, sources), sources, look_seconds)

    @property
    def files(self) -> tuple[Path, ...]:
        """The web configuration's file and those that it names."""
        return self._sources.files

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Say what is in use, and take up what the files come to hold, as long as the block runs."""
        self._say("web configuration in use")
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow(), name="web configuration")
            yield
            following.cancel()

    async def _follow(self) -> None:
        waiting = None
        while True:
            await asyncio.sleep(self._look_seconds)
            now = await asyncio.to_thread(self._sources.fingerprint_now)
            if now == self._sources.fingerprint:
                waiting = None
            elif now != waiting:
                # Somebody may still be writing: it is read once it has not changed between two looks.
                waiting = now
            else:
                waiting = None
                await self._take_up()

    async def _take_up(self) -> None:
        sources = Sources()
        try:
            loaded = await asyncio.to_thread(load_web_config, self._file, sources)
            _check_protection(self._file, self.using.settings, loaded.settings)
        except ConfigError as exc:
            problems = "; ".join(exc.problems)
            self._log.error("web configuration not taken up, the one before stays in use", error=problems)
        else:
            self.using = InUse.of(loaded.settings, self.using)
            if self.ssl_context is not None and loaded.context is not None:
                self.ssl_context.latest = loaded.context
            self._say("web configuration taken up")
        finally:
            self._sources = sources

    def _say(self, message: str) -> None:
        self._log.info(message, **_summary(self._file, self.using.settings))
        for note in notes(self.using.settings):
            if note not in self._told:
                self._told.add(note)
                self._log.warning("web configuration", note=note)


class LatestContext(ssl.SSLContext):
    """A context that opens every connection with the one that was put in place last."""

    latest: ServerContext

    @classmethod
    def first(cls, context: ServerContext) -> LatestContext:
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made.latest = context
        return made

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.latest.wrap_bio(*args, **kwargs)


def _check_protection(file: Path, before: WebSettings, now: WebSettings) -> None:
    """
    Refuse to drop, while running, what keeps others out: a file may lose its end on a full disk.

    Raises: ConfigError.
    """
    problems = []
    if (before.tls_server_config is None) != (now.tls_server_config is None):
        problems.append(f"{file}: tls_server_config: cannot be switched on or off without a restart")
    if _asks_clients(before) and not _asks_clients(now):
        key = "tls_server_config.client_auth_type"
        problems.append(f"{file}: {key}: cannot be switched off without a restart")
    if before.basic_auth_users and not now.basic_auth_users:
        problems.append(f"{file}: basic_auth_users: cannot be switched off without a restart")
    if problems:
        raise ConfigError(problems)


def _asks_clients(settings: WebSettings) -> bool:
    tls = settings.tls_server_config
    return tls is not None and tls.asks_clients


def _summary(file: Path, settings: WebSettings) -> dict[str, object]:
    tls, limit = settings.tls_server_config, settings.rate_limit
    return {
        "file": str(file),
        "tls": tls is not None,
        "client_auth": tls.client_auth_type if tls else "NoClientCert",
        "users": len(settings.basic_auth_users),
        "requests_per_second": 1 / limit.interval_seconds if limit.interval_seconds else "unlimited",
    }


def notes(settings: WebSettings) -> list[str]:
    """Tell what is not as its author may think."""
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
