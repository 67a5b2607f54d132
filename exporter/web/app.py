"""The HTTP application. No handler waits for a poll: each answers from the last publication or the ledger."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from aiohttp import web

from exporter.errors import ConfigError
from exporter.exposition.publication import Publisher
from exporter.model import TargetKey
from exporter.web.failures import FailuresApi
from exporter.web.metrics import OnServed, ScrapeCache
from exporter.web.run_record import Masked
from exporter.web.status import STATIC
from exporter.web.status.handlers import StatusPages, StatusSource

# Texts of the API are shown on the page. If one ever gets past the escaping, its script must not run.
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
    """The program that the application serves. No method may block."""

    @property
    def lifecycle_enabled(self) -> bool:
        """Whether POST /-/reload is served."""

    async def reload(self) -> None:
        """Read the configuration again. Raises: ConfigError, and keeps the old one."""


def create_app(
    exporter: Exporter,
    publisher: Publisher,
    *,
    masked: Masked = str,
    clock: Callable[[], float] = time.time,
    on_served: OnServed | None = None,
) -> web.Application:
    """
    Create the application; nothing is started yet.

    Shape: `on_served` is called for every complete scrape, see exporter.web.metrics.
    Units: `clock` gives Unix seconds.
    """

    def targets() -> list[TargetKey]:
        return [shown.target.key for shown in exporter.snapshots()]

    app = web.Application(middlewares=[_short_errors])
    app.add_routes(
        [
            web.get("/metrics", ScrapeCache(publisher, on_served).answer),
            *StatusPages(exporter, masked, clock).routes(),
            web.get("/api/v1/failures", FailuresApi(exporter, targets, masked, clock).answer),
            *_lifecycle_routes(exporter),
            # A route for each file: a client's path is never used as the name of a file.
            *(
                web.get(f"/static/{file.name}", partial(_serve, file))
                for file in STATIC.iterdir()
                if file.is_file()
            ),
        ]
    )
    app.on_response_prepare.append(_harden)
    return app


def _lifecycle_routes(exporter: Exporter) -> list[web.AbstractRouteDef]:
    async def healthy(request: web.Request) -> web.Response:
        return web.Response(text="octopus-exporter is healthy.\n")

    async def ready(request: web.Request) -> web.Response:
        missing = exporter.ready()
        if missing:
            return web.Response(text="\n".join(["octopus-exporter is not ready:", *missing, ""]), status=503)
        return web.Response(text="octopus-exporter is ready.\n")

    async def reload(request: web.Request) -> web.Response:
        if not exporter.lifecycle_enabled:
            return web.Response(text="reloading is off: web.enable_lifecycle is false\n", status=403)
        try:
            await exporter.reload()
        except ConfigError as error:
            # 4xx, not 5xx: the file is wrong, and the exporter works on with the old one.
            return web.Response(text=f"{error}\n", status=422)
        return web.Response(text="the configuration was read again.\n")

    return [web.get("/-/healthy", healthy), web.get("/-/ready", ready), web.post("/-/reload", reload)]


@web.middleware
async def _short_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return web.Response(text=f"use {allowed}\n", status=405, headers={"Allow": allowed})
    except (web.HTTPNotFound, web.HTTPForbidden):  # forbidden: a file that this user may not read
        return web.Response(text="nothing here; the pages are listed at /\n", status=404)


async def _serve(file: Path, request: web.Request) -> web.StreamResponse:
    return web.FileResponse(file)


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY)
    # aiohttp's version helps only those who look for its weaknesses.
    response.headers.pop("Server", None)
