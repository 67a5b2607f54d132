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
    """A simulator that serves until `close` is called."""

    url: str
    port: int
    _runner: web.AppRunner

    async def close(self) -> None:
        await self._runner.cleanup()


async def serve(settings: SimulatorSettings, host: str = "127.0.0.1", port: int = 0) -> RunningSimulator:
    """Build and serve a simulator; port 0 is any. Raises: ConfigError (unknown faults); CannotListen."""
    # A history of a million jobs takes seconds.
    app = await asyncio.to_thread(create_app, settings)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        # asyncio has added the address to the system's text, so take the text from the number. A host that is
        # not found has a number below 0.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror)
        raise CannotListen(f"cannot listen on {host}:{port}: {reason.lower()}") from error
    port = runner.addresses[0][1]
    return RunningSimulator(f"http://{host}:{port}", port, runner)


def create_app(settings: SimulatorSettings) -> web.Application:
    """Build a simulator with its history, as an aiohttp application. Raises: ConfigError (unknown faults)."""
    start_ms = int(time.time() * 1000) if settings.start_ms is None else settings.start_ms
    clock = SimulatedClock(start_ms, settings.speed, time.monotonic)
    simulator = Simulator(settings, clock, time.time, time.monotonic)
    closing = asyncio.Event()

    async def close(_: web.Application) -> None:
        # End all delays, so that the shutdown does not wait for them.
        closing.set()

    async def issue_token(request: web.Request) -> web.StreamResponse:
        return await _send(request, simulator.issue_token(await _read(request)), closing)

    async def list_jobs(request: web.Request) -> web.StreamResponse:
        response = simulator.list_jobs(await _read(request), request.match_info["project_id"])
        return await _send(request, response, closing)

    async def refuse(request: web.Request) -> web.StreamResponse:
        return await _send(request, simulator.refuse("project_id" in request.match_info), closing)

    path = f"/v1.0/{{project_id}}/data/{settings.path}"
    app = web.Application()
    app.add_routes(Control(simulator).routes())
    app.router.add_post("/v3/auth/tokens", issue_token)
    # The first route that fits answers: GET, any other method of this path, any other path.
    app.router.add_get(path, list_jobs, allow_head=False)
    app.router.add_route("*", path, refuse)
    app.router.add_route("*", "/{path:.*}", refuse)
    app.on_shutdown.append(close)
    return app


async def _send(
    request: web.Request, response: SimulatedResponse, closing: asyncio.Event
) -> web.StreamResponse:
    """Send a response after its delay, which ends early when the simulator is `closing`."""
    if response.delay_seconds:
        with suppress(TimeoutError):
            async with asyncio.timeout(response.delay_seconds):
                await closing.wait()
    if not response.is_cut:
        return web.Response(
            status=response.status,
            body=response.body,
            content_type=response.content_type,
            charset=response.charset,
            headers=response.headers,
        )
    # Announce the whole body, send half of it and close the connection.
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_type = response.content_type
    stream.content_length = len(response.body)
    await stream.prepare(request)
    await stream.write(response.body[: len(response.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return stream


async def _read(request: web.Request) -> SignedRequest:
    return SignedRequest(
        method=request.method,
        path=request.path,
        query=list(request.query.items()),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=await request.read(),
    )
