"""
The HTTP surface: metrics, status, health and reload.

No handler waits for a poll: each answers from what was published last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from exporter import __version__
from exporter.errors import ConfigError
from exporter.exposition.instruments import ProcessMetrics
from exporter.exposition.publication import Publisher
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.web.negotiation import accepts_gzip, choose_format
from exporter.web.page import Page
from exporter.web.status import Status, status

_STATIC = Path(__file__).parent / "static"
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exporter(Protocol):
    """What the pages ask of the program that serves them; nothing of it may block."""

    @property
    def lifecycle_enabled(self) -> bool:
        """Whether POST /-/reload is served."""

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration in use, its secrets hidden."""

    def snapshots(self) -> Iterable[TargetSnapshot]:
        """Every configured target, published or not."""

    def progress(self) -> Mapping[TargetKey, Progress]:
        """How far the targets are whose every job is being listed."""

    def ready(self) -> list[str]:
        """What is still missing, a line each; nothing when ready."""

    async def reload(self) -> None:
        """Read the configuration again. Raises: ConfigError, and keeps the old one."""


class _Surface:
    def __init__(self, exporter: Exporter, publisher: Publisher, clock: Callable[[], float]) -> None:
        self._exporter = exporter
        self._publisher = publisher
        self._clock = clock
        self._process = ProcessMetrics()
        self._page = Page()

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/metrics", self.metrics),
            web.get("/", self.page),
            web.get("/api/v1/status", self.api_status),
            web.get("/-/healthy", self.healthy),
            web.get("/-/ready", self.ready),
            web.post("/-/reload", self.reload),
            web.static("/static", _STATIC),
        ]

    async def metrics(self, request: web.Request) -> web.Response:
        format_ = choose_format(_header(request, "Accept"))
        body, tail = self._publisher.bodies.of(format_), self._process.tail(format_)
        headers = {"Content-Type": format_.value, "Vary": "Accept, Accept-Encoding"}
        if not accepts_gzip(_header(request, "Accept-Encoding")):
            return web.Response(body=body.with_tail(tail), headers=headers)
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=body.gzip_with_tail(tail), headers=headers)

    async def page(self, request: web.Request) -> web.Response:
        # In a thread: with hundreds of targets it takes longer than a scrape should wait.
        html = await asyncio.to_thread(self._page.render, self._status())
        return web.Response(text=html, content_type="text/html", headers={"Cache-Control": "no-store"})

    async def api_status(self, request: web.Request) -> web.Response:
        json = msgspec.json.encode(self._status())
        return web.Response(body=json, content_type="application/json", headers={"Cache-Control": "no-store"})

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

    def _status(self) -> Status:
        return status(
            self._exporter.snapshots(),
            version=__version__,
            now_ms=int(self._clock() * 1000),
            missing=self._exporter.ready(),
            progress=self._exporter.progress(),
            config=self._exporter.config,
        )


def create_app(
    exporter: Exporter, publisher: Publisher, *, clock: Callable[[], float] = time.time
) -> web.Application:
    """Build the application; nothing runs yet. Units: `clock` gives Unix seconds."""
    app = web.Application(middlewares=[_short_errors])
    app.add_routes(_Surface(exporter, publisher, clock).routes())
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


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY)
    response.headers.pop("Server", None)


def _header(request: web.Request, name: str) -> str:
    """Join the header's lines; "" where there is none."""
    return ",".join(request.headers.getall(name, []))
