"""
The HTTP surface: metrics, status, health and reload.

No handler waits for a poll: each answers from what was published last, or from what the ledger has recorded.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from aiohttp import web

from exporter.errors import ConfigError
from exporter.exposition.publication import Publisher
from exporter.web.failures import Failures
from exporter.web.metrics import OnServed, ScrapeCache
from exporter.web.status.handlers import StatusPages, StatusSource
from exporter.web.status.page import STATIC

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exporter(StatusSource, Protocol):
    """What the pages ask of the program that serves them; nothing of it may block."""

    @property
    def lifecycle_enabled(self) -> bool:
        """Whether POST /-/reload is served."""

    async def reload(self) -> None:
        """Read the configuration again. Raises: ConfigError, and keeps the old one."""


class _Surface:
    def __init__(
        self,
        exporter: Exporter,
        scrapes: ScrapeCache,
        masked: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self._exporter = exporter
        self._scrapes = scrapes
        self._pages = StatusPages(exporter, masked, clock)
        self._failures = Failures(
            exporter, lambda: [shown.target.key for shown in exporter.snapshots()], masked, clock
        )

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/metrics", self.metrics),
            *self._pages.routes(),
            *self._failures.routes(),
            web.get("/-/healthy", self.healthy),
            web.get("/-/ready", self.ready),
            web.post("/-/reload", self.reload),
            *(web.get(f"/static/{file.name}", _always(file)) for file in STATIC.iterdir() if file.is_file()),
        ]

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        return await self._scrapes.answer(request)

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="octopus-exporter is healthy.\n")

    async def ready(self, request: web.Request) -> web.Response:
        missing = self._exporter.ready()
        if missing:
            return web.Response(text="\n".join(["octopus-exporter is not ready:", *missing, ""]), status=503)
        return web.Response(text="octopus-exporter is ready.\n")

    async def reload(self, request: web.Request) -> web.Response:
        if not self._exporter.lifecycle_enabled:
            return web.Response(text="reloading is off: web.enable_lifecycle is false\n", status=403)
        try:
            await self._exporter.reload()
        except ConfigError as error:
            return web.Response(text=f"{error}\n", status=422)
        return web.Response(text="the configuration was read again.\n")


def create_app(
    exporter: Exporter,
    publisher: Publisher,
    *,
    masked: Callable[[str], str] = str,
    clock: Callable[[], float] = time.time,
    on_served: OnServed | None = None,
) -> web.Application:
    """
    Build the application; nothing runs yet.

    Shape: `masked` takes the secrets out of the texts that servers sent; `on_served` is told of scrapes, see
    exporter.web.metrics. Units: `clock` gives Unix seconds.
    """
    app = web.Application(middlewares=[_short_errors])
    app.add_routes(_Surface(exporter, ScrapeCache(publisher, on_served), masked, clock).routes())
    app.on_response_prepare.append(_harden)
    return app


@web.middleware
async def _short_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return web.Response(text=f"use {allowed}\n", status=405, headers={"Allow": allowed})
    except (web.HTTPNotFound, web.HTTPForbidden):
        return web.Response(text="nothing here; the pages are listed at /\n", status=404)


def _always(file: Path) -> Handler:
    """Answer with this file. A route each: what is asked for never becomes the name of a file."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(file)

    return answer


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY)
    response.headers.pop("Server", None)
