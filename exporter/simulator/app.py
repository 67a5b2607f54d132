"""Serve the simulator over HTTP."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from exporter.errors import CannotListen
from exporter.simulator.auth import SignedRequest
from exporter.simulator.control import Control
from exporter.simulator.responses import SimulatedResponse
from exporter.simulator.settings import SimulatorSettings
from exporter.simulator.simulator import SimulatedClock, Simulator

SHUTDOWN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that serves until it is closed."""

    url: str
    port: int
    _runner: web.AppRunner

    async def close(self) -> None:
        await self._runner.cleanup()


async def serve(settings: SimulatorSettings, host: str = "127.0.0.1", port: int = 0) -> RunningSimulator:
    """
    Build a simulator and serve it; port 0 takes a free one.

    Raises: ConfigError for faults that do not exist; CannotListen where the address cannot be had.
    """
    app = await asyncio.to_thread(create_app, settings)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        # asyncio has put the address into the system's text; a host that is not found has a number below 0.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason.lower()}") from error
    port = runner.addresses[0][1]
    return RunningSimulator(f"http://{host}:{port}", port, runner)


def create_app(settings: SimulatorSettings) -> web.Application:
    """
    Build a simulator, with all its history, as an aiohttp application.

    Raises: ConfigError for faults that do not exist.
    """
    start_ms = int(time.time() * 1000) if settings.start_ms is None else settings.start_ms
    clock = SimulatedClock(start_ms, settings.speed, time.monotonic)
    simulator = Simulator(settings, clock, time.time, time.monotonic)
    app = web.Application()
    app.add_routes(Control(simulator).routes())
    api = _Api(simulator)
    app.add_routes(api.routes())
    app.on_shutdown.append(api.close)
    return app


class _Api:
    """The remote API's own paths. Everything else is unknown to its gateway."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._closing = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        path = f"/v1.0/{{project_id}}/data/{self._simulator.settings.path}"
        return [
            web.post("/v3/auth/tokens", self.issue_token),
            web.get(path, self.list_jobs, allow_head=False),
            web.route("*", path, self.wrong_method),
            web.route("*", "/{path:.*}", self.not_found),
        ]

    async def close(self, _: web.Application) -> None:
        """Send what is kept back at once, so that nothing waits for it."""
        self._closing.set()

    async def issue_token(self, request: web.Request) -> web.StreamResponse:
        return await self._send(request, self._simulator.issue_token(await _read(request)))

    async def list_jobs(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request)
        answer = self._simulator.list_jobs(asked, request.match_info["project_id"])
        return await self._send(request, answer)

    async def wrong_method(self, request: web.Request) -> web.StreamResponse:
        return await self._send(request, self._simulator.wrong_method())

    async def not_found(self, request: web.Request) -> web.StreamResponse:
        return await self._send(request, self._simulator.not_found())

    async def _send(self, request: web.Request, answer: SimulatedResponse) -> web.StreamResponse:
        if answer.delay_seconds:
            await self._keep_back(answer.delay_seconds)
        if answer.is_cut:
            return await _send_half(request, answer)
        return web.Response(
            status=answer.status,
            body=answer.body,
            content_type=answer.content_type,
            charset=answer.charset,
            headers=answer.headers,
        )

    async def _keep_back(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


async def _read(request: web.Request) -> SignedRequest:
    return SignedRequest(
        method=request.method,
        path=request.path,
        query=list(request.query.items()),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.read(),
    )


async def _send_half(request: web.Request, answer: SimulatedResponse) -> web.StreamResponse:
    """Promise the whole body, send half of it and hang up."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_type = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
