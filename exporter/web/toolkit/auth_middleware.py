"""What stands in front of every page: the rate limit, then the users; and headers on every answer."""

from __future__ import annotations

import math
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from exporter.web.toolkit.configuration import WebConfiguration

_CHALLENGE = 'Basic realm="octopus-exporter", charset="UTF-8"'


class Gate:
    """Holds every request to the web configuration that is in use when it comes."""

    def __init__(self, configuration: WebConfiguration) -> None:
        self._configuration = configuration

    def guard(self, app: web.Application) -> None:
        """Put the gate in front of an application that is built."""
        app.middlewares.insert(0, self._middleware())
        app.on_response_prepare.append(self._set_headers)

    def _middleware(self) -> Middleware:
        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._refusal(request) or await handler(request)

        return gate

    async def _refusal(self, request: web.Request) -> web.Response | None:
        using = self._configuration.using
        if using.limiter is not None and not using.limiter.allows():
            wait = math.ceil(using.limiter.retry_after_seconds)
            headers = {"Retry-After": str(wait)}
            return web.Response(
                text="too many requests\n", status=HTTPStatus.TOO_MANY_REQUESTS, headers=headers
            )
        if using.auth is not None and not await using.auth.admits(request.headers.get("Authorization")):
            headers = {"WWW-Authenticate": _CHALLENGE}
            return web.Response(text="unauthorized\n", status=HTTPStatus.UNAUTHORIZED, headers=headers)
        return None

    async def _set_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._configuration.using.headers)
